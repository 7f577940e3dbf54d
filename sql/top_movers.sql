-- Top movers: whose spending changed most against the period before?
--
-- Grain:      one row for each combination of the grouped dimensions and currency, the largest changes first: of cost, then, where it has no
--             price, of tokens.
-- Units:      tokens and events are counts; cost is in units of the currency, exact; percents are of the period before, null where it had nothing.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), compare (written likewise; the period before where it is left out), zone (of their
--             midnights), group_by (dimensions), limit (the most rows).
-- Limits:     costs of several currencies are ranked by their numbers. A period that is not over is compared with the whole of the one before.
SELECT
    *,
    cost - cost_before AS cost_change,
    round(100.0 * ((cost - cost_before) / nullif(cost_before, 0)), 2) AS cost_change_percent,
    total_tokens - total_tokens_before AS tokens_change,
    round(100.0 * (total_tokens - total_tokens_before) / nullif(total_tokens_before, 0), 2) AS tokens_change_percent
FROM (
    SELECT
        {{dimensions,}}
        currency,
        coalesce(sum(event) FILTER (WHERE is_now), 0) AS events,
        coalesce(sum(event) FILTER (WHERE is_before), 0) AS events_before,
        coalesce(sum(total_tokens) FILTER (WHERE is_now), 0) AS total_tokens,
        coalesce(sum(total_tokens) FILTER (WHERE is_before), 0) AS total_tokens_before,
        CASE WHEN currency IS NOT NULL THEN coalesce(sum(cost) FILTER (WHERE is_now), 0) END AS cost,
        CASE WHEN currency IS NOT NULL THEN coalesce(sum(cost) FILTER (WHERE is_before), 0) END AS cost_before
    FROM (
        SELECT
            *,
            CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END AS event,
            time >= {{from}} AND time < {{to}} AS is_now,
            time >= {{compare_from}} AND time < {{compare_to}} AS is_before
        FROM usage
        WHERE (time >= {{from}} AND time < {{to}}) OR (time >= {{compare_from}} AND time < {{compare_to}})
    )
    GROUP BY {{dimensions,}} currency
)
WHERE total_tokens <> total_tokens_before OR coalesce(cost <> cost_before, false)
ORDER BY abs(cost - cost_before) DESC NULLS LAST, abs(total_tokens - total_tokens_before) DESC, {{dimensions,}} currency
LIMIT {{limit}}
