//! The self-signed certificate of a server under test.

use std::io;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The name that the certificate is for.
pub(super) const SERVER_NAME: &str = "localhost";

/// The protocol that both sides name in the handshake.
pub(super) const APPLICATION_PROTOCOL: &[u8] = b"aether-perf";

/// A certificate and its key, both PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Identity {
    /// Makes a new one: ECDSA over P-256.
    pub(super) fn generate() -> io::Result<Self> {
        let made =
            rcgen::generate_simple_self_signed(vec![SERVER_NAME.to_owned()]).map_err(io::Error::other)?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    /// The certificate as it goes into [`crate::peer::Ready::secret`].
    pub(super) fn secret(&self) -> String {
        self.certificate.bytes().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The certificate that [`Identity::secret`] carries, PEM.
pub(super) fn certificate_of(secret: &str) -> io::Result<String> {
    let bytes = (0..secret.len())
        .step_by(2)
        .map(|at| secret.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect::<Option<Vec<u8>>>();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the server's certificate is not hexadecimal PEM")
    })
}

/// The same cryptography as ours: aws-lc, AES-128-GCM first, X25519.
pub(super) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_survives_the_way_through_the_ready_line() {
        let identity = Identity::generate().unwrap();
        assert_eq!(certificate_of(&identity.secret()).unwrap(), identity.certificate);
        assert!(certificate_of("0g").is_err());
        assert!(certificate_of("abc").is_err());
    }
}
