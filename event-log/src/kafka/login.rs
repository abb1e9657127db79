//! Tells a client that lives on of another password than it was made with: librdkafka takes it for the
//! connections to come, and leaves those alone that there are.
//!
//! The Rust wrapper does not offer this call.
#![expect(unsafe_code, reason = "foreign function calls; each block says why it is sound")]

use super::{KafkaOptions, told};
use almanac_secrets::Secret;
use rdkafka::{ClientContext, bindings as sys, client::Client};
use std::{
    ffi::{CStr, CString},
    time::{Duration, Instant},
};

/// The least time between two looks.
const PAUSE: Duration = Duration::from_secs(5);

/// What a client knows of the password.
#[derive(Default)]
pub(super) struct Login {
    known: Option<Secret>,
    looked: Option<Instant>,
}

impl Login {
    /// Looks, now and then, whether the password is another one.
    pub(super) fn renew<C: ClientContext>(&mut self, options: &KafkaOptions, client: &Client<C>) {
        let security = &options.security;
        let (Some(username), Some(password)) = (&security.sasl_username, &security.sasl_password)
        else {
            return;
        };
        let is_overridden = options.properties.contains_key("sasl.password");
        if !password.is_in_file()
            || is_overridden
            || self.looked.is_some_and(|looked| looked.elapsed() < PAUSE)
        {
            return;
        }
        self.looked = Some(Instant::now());
        let now = password.now();
        if self.known.as_ref() == Some(&now) {
            return;
        }
        match set(client, username, &now) {
            Ok(()) => self.known = Some(now),
            Err(detail) if told::is_first(&detail) => {
                tracing::warn!(detail, "a kafka client does not take another password");
            }
            Err(_) => {}
        }
    }
}

fn set<C: ClientContext>(
    client: &Client<C>,
    username: &str,
    password: &Secret,
) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|_| "it has a byte of zero".to_owned());
    let (username, password) = (text(username)?, text(password.expose())?);
    // SAFETY: client and texts outlive the call, which copies the texts; the error is checked before use
    // and destroyed once.
    unsafe {
        let error = sys::rd_kafka_sasl_set_credentials(
            client.native_ptr(),
            username.as_ptr(),
            password.as_ptr(),
        );
        if error.is_null() {
            return Ok(());
        }
        let detail = CStr::from_ptr(sys::rd_kafka_error_string(error));
        let detail = detail.to_string_lossy().into_owned();
        sys::rd_kafka_error_destroy(error);
        Err(detail)
    }
}
