-- Showback: how does each group's use develop over the days of the period?
--
-- Grain:      one row for each day in the zone, combination of the grouped dimensions, and currency.
-- Units:      tokens and requests are counts; cost is in units of the currency, exact; null where no price is known.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the days), group_by (dimensions).
SELECT
    CAST(time AT TIME ZONE {{zone}} AS DATE) AS day,
    {{dimensions,}}
    currency,
    sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) AS events,
    sum(requests) AS requests,
    sum(total_tokens) AS total_tokens,
    sum(cost) AS cost,
    sum(CASE WHEN cost IS NOT NULL THEN 0 WHEN kind = 'reversal' THEN -1 ELSE 1 END) AS unpriced_events
FROM usage
WHERE time >= {{from}} AND time < {{to}}
GROUP BY CAST(time AT TIME ZONE {{zone}} AS DATE), {{dimensions,}} currency
HAVING sum(CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END) <> 0 OR coalesce(sum(cost) <> 0, false)
ORDER BY day, {{dimensions,}} currency
