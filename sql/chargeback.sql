-- Chargeback: what does each group owe for the period?
--
-- Grain:      one row for each combination of the grouped dimensions and currency. Events without a known price are in a row
--             of their own with currency and cost null, so that they are billed by tokens or priced later, never free.
--             With rules of shared cost (docs/allocation.md) the query tells usage apart by what the rules ask for, and the server shares it: direct_cost
--             is what fell on the group and is not shared out, allocated_cost what it bears of shared cost, cost both.
-- Units:      tokens, requests and calls are counts; compute_seconds are seconds; cost is in units of the currency, exact.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights), group_by (dimensions).
-- Adds up:    every column is a sum over rows, each in exactly one group; the groups' sums are the period's totals. A reversal counts
--             as one event less, an adjustment as none; a group of which everything was taken back has no row.
SELECT
    {{dimensions,}}
    {{shared_keys,}}
    currency,
    sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) AS events,
    sum(requests) AS requests,
    sum(input_tokens) AS input_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(output_tokens) AS output_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    sum(total_tokens) AS total_tokens,
    sum(tool_calls) AS tool_calls,
    sum(compute_seconds) AS compute_seconds,
    sum(cost) AS direct_cost,
    CAST(0 AS DECIMAL(38, 12)) AS allocated_cost,
    sum(cost) AS cost,
    sum(CASE WHEN cost IS NOT NULL THEN 0 WHEN kind = 'reversal' THEN -1 ELSE 1 END) AS unpriced_events
FROM usage
WHERE time >= {{from}} AND time < {{to}}
GROUP BY {{dimensions,}} {{shared_names,}} currency
HAVING {{is_shared}} OR sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) <> 0 OR coalesce(sum(cost) <> 0, false)
ORDER BY {{dimensions,}} currency
