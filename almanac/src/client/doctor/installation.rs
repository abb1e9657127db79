//! The installation that runs, if one does: whether it answers, what its clock says, and what it says is
//! wrong with it.

use super::{Finding, State, clock_of};
use crate::{
    client::{
        Client, Exit,
        show::{items, text},
    },
    config::Config,
};
use almanac_errors::chain;
use reqwest::{Method, header};
use std::{
    io::ErrorKind,
    net::TcpListener,
    time::{Duration, Instant},
};

const CHECK: &str = "installation";
const DOWN: &str = "docs/runbooks/down.md";

pub(super) async fn checks(client: &Client, config: &Config, at_most: Duration) -> Vec<Finding> {
    let began = Instant::now();
    let asking = client.request(Method::GET, &["healthz"], &[]).send();
    let answer = match tokio::time::timeout(at_most, asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            let error = error.without_url();
            return vec![
                Finding::warn(
                    CHECK,
                    format!("none answers at {}: {}", client.shown(), chain(&error)),
                )
                .advise("start it, or name its address with --url")
                .runbook(DOWN),
                port(&config.http.listen),
            ];
        }
        Err(_) => {
            let found = format!("{} did not answer within {} s", client.shown(), at_most.as_secs());
            return vec![Finding::fail(CHECK, found).runbook(DOWN)];
        }
    };
    let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
    let clock = date.and_then(|date| clock_of("the installation", date, began.elapsed()));
    let is_ours = answer.status().is_success()
        && answer.text().await.is_ok_and(|body| body.trim_end() == "ok");
    if !is_ours {
        let found = format!("something else than Almanac answers at {}", client.shown());
        return vec![Finding::fail(CHECK, found).advise(
            "free the port, set http.listen to another, or name the right address with --url",
        )];
    }
    let mut findings = vec![Finding::ok(CHECK, format!("one answers at {}", client.shown()))];
    findings.extend(clock);
    findings.extend(status(client, at_most).await);
    findings
}

/// Whether the port could be listened on. Nobody is let in meanwhile.
fn port(listen: &str) -> Finding {
    let check = "port";
    match TcpListener::bind(listen) {
        Ok(_) => Finding::ok(check, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Finding::fail(check, format!("{listen} is in use, and not by Almanac"))
                .advise("end what listens there, or set http.listen to another")
        }
        Err(error) => Finding::fail(check, format!("{listen} cannot be listened on: {error}"))
            .advise("set http.listen to an address of this machine"),
    }
}

/// What it says of itself.
async fn status(client: &Client, at_most: Duration) -> Vec<Finding> {
    let check = "status";
    let request = client.request(Method::GET, &["v1", "admin", "status"], &[]);
    // It gives each of its parts five seconds.
    let asking = tokio::time::timeout(at_most + Duration::from_secs(5), client.send_json(request));
    let status = match asking.await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            let found = chain(&*error).to_string();
            let is_refused = error.downcast_ref::<Exit>().is_some();
            let finding =
                Finding::new(check, if is_refused { State::Warn } else { State::Fail }, found);
            return vec![match is_refused {
                true => finding.advise("give --token one with the scope operator:read"),
                false => finding.runbook(DOWN),
            }];
        }
        Err(_) => return vec![Finding::fail(check, "it was not told in time").runbook(DOWN)],
    };
    let mut findings: Vec<Finding> = items(&status, "problems")
        .map(|one| {
            let since = one["since"].as_str();
            let since = since.map_or(String::new(), |since| format!(", since {since}"));
            let found = format!("{}{since}", text(one, "what"));
            let state = if text(one, "severity") == "page" { State::Fail } else { State::Warn };
            Finding::new(check, state, found).runbook(text(one, "runbook"))
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(check, "it has no problems to tell of"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_listens_on_is_in_use() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let told = port(&address);
        assert_eq!(told.state, State::Fail);
        assert!(told.found.contains(&address), "{told:?}");
        drop(listener);
        assert_eq!(port(&address).state, State::Ok);
    }
}
