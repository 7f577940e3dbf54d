//! Errors that have nothing to do with what was asked: keys, paths, methods, panics.

use http_api::{HttpConfig, HttpError, Method, Secret, Server, routes};

use crate::client::{ask, ask_as, get, start};

fn name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put | Method::Any => "PUT",
        Method::Delete => "DELETE",
    }
}

#[tokio::test]
async fn every_v1_route_needs_the_key_and_no_other_does() {
    let server = start().await;
    for (method, path) in routes() {
        let path = path.replace("{name}", "chargeback").replace("{id}", "x").replace("{*path}", "a/b");
        let answer = ask_as(server.addr, name(method), &path, &[], "").await;
        if path.starts_with("/v1/") || path.starts_with("/api/") {
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "unauthorized"), "{path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"outlay\"");
            let wrong = [("authorization", "Bearer test-admin-kez")];
            assert_eq!(ask_as(server.addr, name(method), &path, &wrong, "").await.status, 401, "{path}");
        } else {
            assert_eq!(answer.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_wrong_path_or_method_is_a_problem() {
    let server = start().await;
    let answer = get(server.addr, "/v1/nothing").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (404, "not_found"));
    let answer = ask(server.addr, "DELETE", "/v1/sql", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), "POST");
}

#[tokio::test]
async fn a_panic_is_a_problem_that_tells_nothing_and_the_server_goes_on() {
    let server = start().await;
    let answer = ask(server.addr, "GET", "/v1/check", &[("x-outlay-namespace", "panic")], "").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (500, "internal"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("asked to panic"));
    assert_eq!(get(server.addr, "/healthz").await.status, 200);
}

#[tokio::test]
async fn a_key_that_lets_everybody_in_and_a_taken_port_are_refused_at_the_start() {
    let server = start().await;
    let bind = |addr, key: &str| Server::bind(HttpConfig::new(addr, Secret::new(key)), server.engine.clone());
    assert!(matches!(bind(([127, 0, 0, 1], 0).into(), "").await, Err(HttpError::WeakKey { .. })));
    let Err(error) = bind(server.addr, "long-enough-key").await else { panic!("two servers on one port") };
    assert!(error.to_string().contains("free the port"), "{error}");
}
