//! TLS, from files in PEM.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates cannot be read, or has none.
    #[error("the certificates: {0}")]
    Certificates(pem::Error),
    /// The file of the key cannot be read, or has none.
    #[error("the private key: {0}")]
    Key(pem::Error),
    /// They do not go together, or are of a kind that is not known.
    #[error("{0}")]
    Config(#[from] rustls::Error),
}

/// TLS 1.2 and 1.3 by a chain of certificates (the server's first) and its private key.
///
/// # Errors
/// The files cannot be read, or do not go together.
pub fn tls(certificates: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let chain = CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(TlsError::Certificates)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(TlsError::Key)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok(TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key)?)))
}
