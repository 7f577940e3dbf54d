-- Reconciliation: where do the invoices of providers and what was metered differ?
--
-- Grain:      one row for each provider, currency and, as `by` says, day and model, day, model, or none of them. A day or model is null where an
--             invoice does not say (only its total is known, or something that no line explains), and in currency where usage has no price.
-- Units:      tokens are counts of all classes; costs are in units of the currency, exact. A difference is what the invoice has more than was
--             metered; that of tokens is null where the invoice has none.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), by, zone (of the metered days; providers bill in UTC).
-- Adds up:    each line of an invoice and each row of usage is in exactly one row. Lines without a day are those of their month, and in no
--             report of less.
SELECT
    provider,
    CASE WHEN {{by}} IN ('day_and_model', 'day') THEN day END AS day,
    CASE WHEN {{by}} IN ('day_and_model', 'model') THEN model END AS model,
    currency,
    sum(invoiced_cost) AS invoiced_cost,
    sum(metered_cost) AS metered_cost,
    coalesce(sum(invoiced_cost), 0) - coalesce(sum(metered_cost), 0) AS cost_difference,
    sum(invoiced_tokens) AS invoiced_tokens,
    sum(metered_tokens) AS metered_tokens,
    sum(invoiced_tokens) - coalesce(sum(metered_tokens), 0) AS token_difference
FROM (
    SELECT
        provider,
        CAST(time AT TIME ZONE {{zone}} AS DATE) AS day,
        model,
        currency,
        CAST(NULL AS DECIMAL(38, 12)) AS invoiced_cost,
        cost AS metered_cost,
        CAST(NULL AS BIGINT) AS invoiced_tokens,
        total_tokens AS metered_tokens
    FROM usage
    WHERE time >= {{from}} AND time < {{to}}
    UNION ALL
    SELECT
        provider,
        day,
        model,
        currency,
        cost AS invoiced_cost,
        CAST(NULL AS DECIMAL(38, 12)) AS metered_cost,
        total_tokens AS invoiced_tokens,
        CAST(NULL AS BIGINT) AS metered_tokens
    FROM invoices
    WHERE coalesce(day, month) >= CAST({{from}} AT TIME ZONE {{zone}} AS DATE)
        AND coalesce(day, CAST(month + INTERVAL '1 month' - INTERVAL '1 day' AS DATE)) < CAST({{to}} AT TIME ZONE {{zone}} AS DATE)
)
GROUP BY provider, 2, 3, currency
ORDER BY provider, day, model, currency
