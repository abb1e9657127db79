//! What stands before the routes: limits, identity, and what caches may keep.

mod caching;
mod hostile;
mod identity;
mod key_server;
mod limits;
mod varnish;

use almanac_tests::process::Installation;

/// The header of a token that the installation's own key signs.
fn bearer(installation: &Installation, subject: &str, scopes: &str) -> String {
    let arguments = ["token", "--scope", scopes, "--subject", subject];
    let minted = installation.command("up", &arguments);
    assert!(minted.status.success(), "{minted:?}");
    format!("Bearer {}", String::from_utf8(minted.stdout).unwrap().trim())
}
