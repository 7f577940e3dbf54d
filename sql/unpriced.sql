-- Unpriced: which models have no price, why, since when, and how much was used of them?
--
-- Grain:      one row for each provider, model, reason and combination of the grouped dimensions that has events without a price.
--             reason: unknown_model, not_yet_effective, not_effective, ambiguous_provider, no_rate, no_fee, no_service_tier, no_context_tier,
--             ambiguous_context, no_exchange_rate, no_model, out_of_range; null for events of a version that did not keep it.
-- Units:      tokens and events are counts; times are UTC. What is void or amended does not count. What a repricing has charged since is
--             in the cost reports; it does not take an event from this list.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights), group_by (dimensions; none by default).
SELECT
    provider,
    model,
    unpriced_reason AS reason,
    {{dimensions,}}
    sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) AS events,
    sum(total_tokens) AS total_tokens,
    min(time) AS first_time,
    max(time) AS last_time
FROM usage
WHERE time >= {{from}} AND time < {{to}} AND cost IS NULL
GROUP BY {{dimensions,}} provider, model, unpriced_reason
HAVING sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) <> 0
ORDER BY events DESC, provider, model, reason
