-- Cache: how much of the input came from the providers' prompt caches?
--
-- Grain:      one row for each model and combination of the grouped dimensions.
-- Units:      tokens are counts; cache_read_percent is the share of all input tokens that a cache held, in percent.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights), group_by (dimensions; none by default).
SELECT
    model,
    {{dimensions,}}
    sum(input_tokens) AS input_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_5m_tokens + cache_write_1h_tokens) AS cache_write_tokens,
    round(100.0 * sum(cache_read_tokens)
        / nullif(sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens), 0), 2)
        AS cache_read_percent
FROM usage
WHERE time >= {{from}} AND time < {{to}}
GROUP BY {{dimensions,}} model
HAVING sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) <> 0
ORDER BY {{dimensions,}} model
