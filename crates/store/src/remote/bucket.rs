//! Stores by scheme and name, each opened once.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};

use super::reason::one_line;

const SILENCE: &str = "30 seconds";
const NO_LIMIT: &str = "1 day";

/// A bucket, container or host.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) scheme: String,
    pub(super) name: String,
    is_there: AtomicBool,
}

impl Bucket {
    pub(super) fn of(scheme: &str, name: &str) -> io::Result<Arc<Self>> {
        static BUCKETS: LazyLock<Mutex<HashMap<String, Arc<Bucket>>>> = LazyLock::new(Mutex::default);
        // Clients are made within the runtime's reach, and with its cryptography.
        let _runtime = super::runtime()?.enter();
        let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let address = format!("{scheme}://{name}");
        if let Some(bucket) = buckets.get(&address) {
            return Ok(Arc::clone(bucket));
        }
        let (scheme, name) = (scheme.to_owned(), name.to_owned());
        let store = open(&scheme, &name)?;
        let bucket = Arc::new(Self { store, scheme, name, is_there: AtomicBool::new(false) });
        buckets.insert(address, Arc::clone(&bucket));
        Ok(bucket)
    }

    /// It has answered as a bucket that exists does.
    pub(super) fn is_there(&self) {
        self.is_there.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_known_to_be_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    pub(super) fn is_plain_http(&self) -> bool {
        self.scheme.starts_with("http")
    }

    /// What gives this kind of store its credentials.
    pub(super) fn credentials(&self) -> &'static str {
        provider(&self.scheme).map_or("the server's own rules", |provider| provider.mend)
    }
}

/// How a kind of store is told who asks.
struct Provider {
    /// Variables of which one is enough.
    variables: &'static [&'static str],
    mend: &'static str,
}

fn provider(scheme: &str) -> Option<Provider> {
    match scheme {
        "s3" => Some(Provider {
            variables: &[
                "AWS_ACCESS_KEY_ID",
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "AWS_METADATA_ENDPOINT",
                "AWS_SKIP_SIGNATURE",
            ],
            mend: "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
        }),
        "gs" => Some(Provider {
            variables: &[
                "GOOGLE_APPLICATION_CREDENTIALS",
                "GOOGLE_SERVICE_ACCOUNT",
                "GOOGLE_SERVICE_ACCOUNT_PATH",
                "GOOGLE_SERVICE_ACCOUNT_KEY",
                "GOOGLE_SKIP_SIGNATURE",
            ],
            mend: "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
        }),
        "az" => Some(Provider {
            variables: &[
                "AZURE_STORAGE_ACCOUNT_KEY",
                "AZURE_STORAGE_SAS_TOKEN",
                "AZURE_STORAGE_CLIENT_ID",
                "AZURE_CLIENT_ID",
                "AZURE_FEDERATED_TOKEN_FILE",
                "AZURE_SKIP_SIGNATURE",
            ],
            mend: "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true for a public container",
        }),
        _ => None,
    }
}

/// Without any of the variables, the last resort of all three is the service that tells virtual machines who they are. Elsewhere there is
/// none, which the clients find out in minutes; this takes a second.
fn check_credentials(scheme: &str) -> io::Result<()> {
    let Some(provider) = provider(scheme) else { return Ok(()) };
    let home = std::env::home_dir().unwrap_or_default();
    let has_file =
        scheme == "gs" && home.join(".config/gcloud/application_default_credentials.json").exists();
    if has_file || provider.variables.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let service = SocketAddr::from(([169, 254, 169, 254], 80));
    match TcpStream::connect_timeout(&service, Duration::from_secs(1)) {
        Ok(_) => Ok(()),
        Err(_) => {
            let reason = format!("there are no credentials for {scheme}://; set {}", provider.mend);
            Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
        }
    }
}

/// What every request is tried again for: for a quarter of a minute, some five times.
fn retries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(5),
        base: 3.0,
    };
    RetryConfig { backoff, max_retries: 6, retry_timeout: Duration::from_secs(60) }
}

/// A connection may be silent for so long; an answer as a whole may take any time, since large ones do.
fn patience<B>(builder: B, set: impl Fn(B, ClientConfigKey, &str) -> B) -> B {
    [(ClientConfigKey::ReadTimeout, SILENCE), (ClientConfigKey::Timeout, NO_LIMIT)]
        .into_iter()
        .fold(builder, |builder, (key, value)| set(builder, key, value))
}

fn open(scheme: &str, name: &str) -> io::Result<Arc<dyn ObjectStore>> {
    check_credentials(scheme)?;
    let opened = match scheme {
        "s3" => s3(AmazonS3Builder::from_env(), name),
        "gs" => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(name).with_retry(retries());
            let builder = patience(builder, |builder, key, value| {
                builder.with_config(GoogleConfigKey::Client(key), value)
            });
            builder.build().map(shared)
        }
        "az" => {
            let builder = MicrosoftAzureBuilder::from_env().with_container_name(name).with_retry(retries());
            let builder = patience(builder, |builder, key, value| {
                builder.with_config(AzureConfigKey::Client(key), value)
            });
            builder.build().map(shared)
        }
        _ => {
            let builder = HttpBuilder::new()
                .with_url(format!("{scheme}://{name}"))
                .with_retry(retries())
                .with_config(ClientConfigKey::AllowHttp, "true");
            patience(builder, |builder, key, value| builder.with_config(key, value)).build().map(shared)
        }
    };
    opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, one_line(&error.to_string())))
}

fn s3(builder: AmazonS3Builder, name: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    let builder = builder.with_bucket_name(name).with_retry(retries());
    let builder =
        patience(builder, |builder, key, value| builder.with_config(AmazonS3ConfigKey::Client(key), value));
    builder.build().map(shared)
}

fn shared(store: impl ObjectStore) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

#[cfg(test)]
impl Bucket {
    /// A bucket of an S3 server without TLS that asks nobody who they are.
    pub(super) fn of_server(url: &str, name: &str) -> Arc<Self> {
        let _runtime = super::runtime().unwrap().enter();
        let builder =
            AmazonS3Builder::new().with_endpoint(url).with_allow_http(true).with_skip_signature(true);
        let (store, scheme, name) = (s3(builder, name).unwrap(), "s3".to_owned(), name.to_owned());
        Arc::new(Self { store, scheme, name, is_there: AtomicBool::new(false) })
    }
}
