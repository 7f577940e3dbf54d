-- FOCUS: which charges does the period have, in the FinOps Open Cost and Usage Specification?
--
-- Grain:      one row for each day in the zone, namespace, provider, model, service tier, combination of the grouped dimensions, currency,
--             origin of the cost, and whatever else a price depends on: price_span counts the changes of prices within a day, prompt_band the
--             lengths of prompts that have prices of their own. Adjustments are apart, by their run, and so is what restates a month that was
--             over (is_correction), what is taken back of it from what is added. The server makes charges of these rows, one for each token class
--             and fee, and writes the specification's columns: see docs/focus.md. Usage without a price is no charge: its rows have no cost.
-- Units:      tokens, requests, calls and images are counts; compute_seconds are seconds; cost is in units of the currency, exact; row_count
--             counts rows of the lake, events what happened.
-- Parameters: period (YYYY, YYYY-MM, YYYY-Www or YYYY-MM-DD), zone (of the days and months), group_by (dimensions that become tags), version (1.0 or
--             1.2), billing_account (its identifier and name).
-- Adds up:    the costs are those of the report chargeback: each row of the lake is in exactly one group.
SELECT
    day,
    namespace,
    provider,
    model,
    service_tier,
    {{dimensions,}}
    currency,
    cost_origin,
    is_correction,
    takes_back,
    adjustment,
    price_span,
    prompt_band,
    count(*) AS row_count,
    sum(event) AS events,
    min(time) AS first_time,
    max(prompt_tokens) AS longest_prompt,
    sum(input_tokens) AS input_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(output_tokens) AS output_tokens,
    sum(reasoning_tokens) AS reasoning_tokens,
    sum(total_tokens) AS total_tokens,
    sum(requests) AS requests,
    sum(tool_calls) AS tool_calls,
    sum(images) AS images,
    sum(compute_seconds) AS compute_seconds,
    sum(cost) AS cost
FROM (
    SELECT
        *,
        CASE WHEN is_correction AND kind = 'reversal' THEN true ELSE false END AS takes_back,
        {{prompt_band}} AS prompt_band
    FROM (
        SELECT
            *,
            CAST(time AT TIME ZONE {{zone}} AS DATE) AS day,
            CASE kind WHEN 'reversal' THEN -1 WHEN 'adjustment' THEN 0 ELSE 1 END AS event,
            CASE WHEN kind = 'adjustment' THEN coalesce(corrects, '') END AS adjustment,
            abs(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens) AS prompt_tokens,
            {{price_span}} AS price_span,
            kind IN ('backfill', 'reversal', 'amendment', 'adjustment')
                AND date_trunc('month', CAST(log_time AT TIME ZONE {{zone}} AS DATE))
                    > date_trunc('month', CAST(time AT TIME ZONE {{zone}} AS DATE)) AS is_correction
        FROM usage
        WHERE time >= {{from}} AND time < {{to}}
    )
)
GROUP BY
    day, namespace, provider, model, service_tier, {{dimensions,}} currency, cost_origin, is_correction, takes_back, adjustment, price_span,
    prompt_band
ORDER BY
    day, namespace, provider, model, service_tier, {{dimensions,}} currency, cost_origin, is_correction, takes_back, adjustment, price_span,
    prompt_band
