-- By model: which models does the money go to, and what does a million tokens of each cost in practice?
--
-- Grain:      one row for each provider, model, combination of the grouped dimensions, and currency.
-- Units:      tokens are counts; cost is in units of the currency, exact; cost_per_million_tokens is that divided by millions
--             of tokens of all classes, rounded by the division.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights), group_by (dimensions; none by default).
SELECT
    provider,
    model,
    {{dimensions,}}
    currency,
    sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) AS events,
    sum(requests) AS requests,
    sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens) AS prompt_tokens,
    sum(output_tokens + reasoning_tokens) AS completion_tokens,
    sum(total_tokens) AS total_tokens,
    sum(cost) AS cost,
    sum(cost) * 1000000 / nullif(sum(total_tokens), 0) AS cost_per_million_tokens
FROM usage
WHERE time >= {{from}} AND time < {{to}}
GROUP BY provider, model, {{dimensions,}} currency
HAVING sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) <> 0 OR coalesce(sum(cost) <> 0, false)
ORDER BY provider, model, {{dimensions,}} currency
