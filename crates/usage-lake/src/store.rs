//! A local folder as an object store that survives a power loss.
//!
//! `object_store`'s own local store writes without `fsync`: after a power loss a log entry can be visible and empty, or name a
//! data file that is not there. Here a file gets its name only after its bytes are on disk, and a write counts only after its
//! name is too. Reading is passed on unchanged. Deliberately absent: any other kind of store (those are durable by themselves).

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutPayloadMut, PutResult, RenameOptions, Result, UploadPart,
};

const NAME: &str = "DurableLocal";

/// The local file system from its root, with durable writes.
#[derive(Debug, Clone)]
pub(crate) struct DurableLocal {
    inner: Arc<LocalFileSystem>,
}

impl DurableLocal {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()) }
    }

    async fn write(&self, location: &Path, payload: PutPayload, mode: PutMode) -> Result<PutResult> {
        let target = self.inner.path_to_filesystem(location)?;
        let shown = location.to_string();
        tokio::task::spawn_blocking(move || write_durably(&target, &payload, &mode))
            .await
            .map_err(|source| Error::JoinError { source })?
            .map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists => Error::AlreadyExists { path: shown, source: Box::new(source) },
                _ => Error::Generic { store: NAME, source: Box::new(source) },
            })?;
        Ok(PutResult { e_tag: None, version: None })
    }
}

/// Bytes to disk under a staging name, then the name, then the folder. A staging name ends in `#` and digits, which the store
/// never lists; what a crash leaves under one is garbage.
fn write_durably(target: &FsPath, payload: &PutPayload, mode: &PutMode) -> io::Result<()> {
    static STAGED: AtomicU64 = AtomicU64::new(0);
    let folder = target.parent().ok_or(ErrorKind::InvalidInput)?;
    create_folders(folder)?;
    let number = STAGED.fetch_add(1, Ordering::Relaxed);
    let staged = PathBuf::from(format!("{}#{}{number:06}", target.display(), std::process::id()));
    let written = (|| {
        let mut file = File::create(&staged)?;
        payload.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_all()?;
        match mode {
            // A hard link fails where the name exists: this is the log's compare-and-swap.
            PutMode::Create => fs::hard_link(&staged, target),
            _ => fs::rename(&staged, target),
        }
    })();
    if written.is_err() || matches!(mode, PutMode::Create) {
        // Only tidying up: the name is set, or the error is already on its way.
        let _ = fs::remove_file(&staged);
    }
    written?;
    sync_folder(folder)
}

fn create_folders(folder: &FsPath) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folders(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

fn sync_folder(folder: &FsPath) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}({})", self.inner)
    }
}

/// Gathers the parts in memory: only Delta checkpoints come this way, and they are small.
#[derive(Debug)]
struct Gathered {
    store: DurableLocal,
    location: Path,
    parts: PutPayloadMut,
}

#[async_trait]
impl MultipartUpload for Gathered {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        data.iter().for_each(|part| self.parts.push(part.clone()));
        Box::pin(async { Ok(()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = std::mem::take(&mut self.parts).freeze();
        self.store.write(&self.location, payload, PutMode::Overwrite).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts = PutPayloadMut::new();
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match opts.mode {
            PutMode::Update(_) => self.inner.put_opts(location, payload, opts).await,
            mode => self.write(location, payload, mode).await,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Gathered { store: self.clone(), location: location.clone(), parts: PutPayloadMut::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
