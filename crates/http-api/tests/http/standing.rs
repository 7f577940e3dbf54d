//! `GET /v1/standing`: what is asked reaches the engine, and what cannot be asked is refused.

use crate::client::{get, start};

#[tokio::test]
async fn a_standing_is_asked_for_by_budget_scope_and_period() {
    let server = start().await;
    let answer = get(server.addr, "/v1/standing?budget=eval&period=2026-11&namespace=support").await;
    assert_eq!(answer.status, 200);
    let view = answer.json();
    assert_eq!((view["budget"].as_str(), view["mode"].as_str()), (Some("eval"), Some("2026-11")));
    let asked = server.engine.balance_queries.lock();
    assert_eq!(asked[0].scope.to_string(), "namespace=support");
}

#[tokio::test]
async fn a_standing_without_a_budget_or_with_an_unknown_parameter_is_refused() {
    let server = start().await;
    for (path, status, field) in [
        ("/v1/standing", 400, "budget"),
        ("/v1/standing?budget=a&periods=2026", 400, "periods"),
        ("/v1/standing?budget=none", 404, ""),
    ] {
        let answer = get(server.addr, path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.json()["field"].as_str().unwrap_or_default(), field, "{path}");
    }
}
