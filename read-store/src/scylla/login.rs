//! A user name and a password for each connection, as the password is when it is made.

use almanac_secrets::Kept;
use async_trait::async_trait;
use scylla::authentication::{
    AuthError, AuthenticatorProvider, AuthenticatorSession, PlainTextAuthenticator,
};

/// The driver's own has one password for its whole life.
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: Kept,
}

#[async_trait]
impl AuthenticatorProvider for Login {
    async fn start_authentication_session(
        &self,
        authenticator: &str,
    ) -> Result<(Option<Vec<u8>>, Box<dyn AuthenticatorSession>), AuthError> {
        let password = self.password.now().expose().to_owned();
        let now = PlainTextAuthenticator::new(self.username.clone(), password);
        now.start_authentication_session(authenticator).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_connection_has_the_password_of_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "first\n").unwrap();
        let login =
            Login { username: "u".to_owned(), password: Kept::in_file(file.clone()).unwrap() };
        let said = async || login.start_authentication_session("any").await.unwrap().0.unwrap();
        assert_eq!(said().await, b"\0u\0first");
        std::fs::write(&file, "second\n").unwrap();
        assert_eq!(said().await, b"\0u\0second");
    }
}
