//! Invoices over HTTP: what must be said, and what the engine is told of it.

use http_api::{InvoiceView, Stated};

use crate::client::{ask, get, start};

const PATH: &str = "/v1/invoices";
const BODY: &str = r#"{"month": "2026-10", "currency": "USD", "total": "12.5", "lines": [{"day": "2026-10-01", "model": "m", "cost": "3"}]}"#;

#[tokio::test]
async fn an_invoice_is_told_to_the_engine_with_who_imports_it() {
    let server = start().await;
    let put = async |number: &str, body: &str| {
        let path = format!("{PATH}/azure%20openai/{number}");
        ask(server.addr, "PUT", &path, &[("x-outlay-actor", "ada"), ("x-outlay-reason", "october")], body).await
    };
    assert_eq!((put("INV-2", BODY).await.status.as_u16(), put("INV-1", BODY).await.status.as_u16()), (201, 200));
    {
        let told = server.engine.invoices_put.lock();
        let (invoice, stated) = &told[0];
        assert_eq!((invoice.provider.as_str(), invoice.number.as_str()), ("azure openai", "INV-2"));
        assert_eq!((invoice.total().to_string().as_str(), invoice.lines.len()), ("12.5 USD", 2));
        assert_eq!(*stated, Stated { actor: Some("ada".into()), reason: Some("october".into()) });
    }
    for (body, field) in [
        (BODY.replace("2026-10-01", "2026-11-01"), Some("lines[0].day")),
        (
            BODY.replace("totl", "total").replace(r#""total": "12.5","#, "").replace(r#", "cost": "3""#, ""),
            Some("total"),
        ),
        (BODY.replace("total", "totl"), None),
    ] {
        let refused = put("INV-2", &body).await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (400, "invalid_parameter"), "{body}");
        assert_eq!(refused.json()["field"].as_str(), field, "{body}");
    }
}

#[tokio::test]
async fn invoices_are_listed_read_and_forgotten() {
    let server = start().await;
    let all: Vec<InvoiceView> = serde_json::from_slice(&get(server.addr, PATH).await.body).unwrap();
    assert_eq!((all.len(), all[0].number.as_str(), all[0].total.as_str()), (1, "INV-1", "12.5"));
    assert_eq!(get(server.addr, &format!("{PATH}/openai/INV-1")).await.status, 200);
    assert_eq!(get(server.addr, &format!("{PATH}/openai/INV-9")).await.problem(), "not_found");
    let delete = async |number: &str| ask(server.addr, "DELETE", &format!("{PATH}/openai/{number}"), &[], "").await;
    assert_eq!(delete("INV-1").await.status, 204);
    assert_eq!(delete("INV-9").await.problem(), "not_found");
    assert_eq!(get(server.addr, &format!("{PATH}?month=2026-10")).await.problem(), "invalid_parameter");
}
