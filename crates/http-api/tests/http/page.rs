//! The web page: how its files are served. What it does is tried in a real browser in `browser.rs`.

use http_api::routes;

use crate::client::{ask_as, start};

#[tokio::test]
async fn the_page_comes_with_a_policy_that_allows_its_own_files_only() {
    let server = start().await;
    let assets: Vec<&str> =
        routes().into_iter().map(|(_, path)| path).filter(|p| *p == "/" || p.starts_with("/assets/")).collect();
    assert!(assets.len() > 3, "{assets:?}");
    for path in assets {
        let answer = ask_as(server.addr, "GET", path, &[], "").await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let namespace = "http://www.w3.org/2000/svg";
        for scheme in ["http://", "https://"] {
            assert!(!text.replace(namespace, "").contains(scheme), "{path} names another host");
        }
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(markup), "{path} uses {markup}: values go in as text only");
        }
    }
}
