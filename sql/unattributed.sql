-- Unattributed: which usage does not say whose it is?
--
-- Grain:      one row for each of the dimensions looked for, combination of the grouped dimensions, and currency, that has usage which does
--             not name that dimension. Usage without a price is in a row of its own with currency and cost null.
-- Units:      tokens and requests are counts; cost is in units of the currency, exact; percent_of_tokens is the share of all tokens of the
--             period, in percent.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the period's midnights), missing (the dimensions looked for), group_by
--             (dimensions).
-- Adds up:    within one missing dimension. Usage that lacks two of them is in the rows of both.
SELECT
    missing,
    {{dimensions,}}
    currency,
    sum(event) AS events,
    sum(requests) AS requests,
    sum(total_tokens) AS total_tokens,
    sum(cost) AS cost,
    round(100.0 * sum(total_tokens) / nullif((
        SELECT sum(total_tokens) FROM usage WHERE time >= {{from}} AND time < {{to}}
    ), 0), 2) AS percent_of_tokens
FROM (
    SELECT
        *,
        CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END AS event,
        unnest(make_array({{missing}})) AS missing
    FROM usage
    WHERE time >= {{from}} AND time < {{to}}
)
WHERE missing IS NOT NULL
GROUP BY missing, {{dimensions,}} currency
HAVING sum(event) <> 0 OR coalesce(sum(cost) <> 0, false)
ORDER BY missing, {{dimensions,}} currency
