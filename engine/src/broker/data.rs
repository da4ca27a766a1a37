//! The data folder: who may use it, whose it is, and where each log lives in it.
//!
//! ```text
//! DATA/lock                              held by the running broker
//! DATA/meta.properties                   version, node.id, cluster.id
//! DATA/clean                             where each partition stood, after a clean stop (`clean`)
//! DATA/__cluster_metadata-0/             the log of the cluster's metadata
//! DATA/topics/NAME/TOPIC_ID-PARTITION/   one partition's log
//! ```
//!
//! A folder is named after the topic's id, so that a topic made again under an old name never meets
//! the old one's files. Every name is durable before anything in it is acknowledged.

use std::path::{Path, PathBuf};

use tracing::info;

use crate::id::{NodeId, PartitionIndex, TopicId};
use crate::io::{self, Buf, ErrorKind, File, Io, Open};
use crate::machine::{ClusterId, Image, Topic};
use crate::probe::{self, Probe};

const LOCK: &str = "lock";
const META: &str = "meta.properties";
const TOPICS: &str = "topics";
/// The format of the folder and of `meta.properties`. A newer one is refused.
const VERSION: u32 = 1;

/// Why a data folder cannot be used. Shown, it says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another process holds the lock.
    #[error(
        "the data folder {} is in use by another broker; stop that one, or give this one a folder \
         of its own with --data", .0.display()
    )]
    InUse(PathBuf),
    /// `meta.properties` was written by a newer Trialog.
    #[error(
        "the data folder {} has format version {version}, and this program knows versions up to \
         {VERSION}; start it with a newer Trialog", folder.display()
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its version.
        version: u32,
    },
    /// It belongs to another broker.
    #[error(
        "the data folder {} belongs to the broker with node.id={theirs}, and this one has \
         node.id={ours}; give --set node.id={theirs}, or another folder with --data",
        folder.display()
    )]
    OtherNode {
        /// The folder.
        folder: PathBuf,
        /// The id in the folder.
        theirs: i32,
        /// The id of this broker.
        ours: i32,
    },
    /// `meta.properties` makes no sense.
    #[error("{}: {reason}; restore the file from a backup", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk said no.
    #[error("the data folder {}: {error}", folder.display())]
    Storage {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// A data folder that this process alone may use, until this is dropped.
pub struct Claim<F> {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    _lock: F,
}

/// Makes `folder` if there is none, locks it, and checks that it is this node's.
pub async fn claim<I: Io>(
    io: &I,
    folder: &Path,
    node: NodeId,
) -> Result<Claim<I::File>, DataError> {
    let storage = |error| DataError::Storage { folder: folder.to_owned(), error };
    make_path(io, folder).await?;
    let lock = match io.lock(&folder.join(LOCK)).await {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            return Err(DataError::InUse(folder.to_owned()));
        }
        Err(error) => return Err(storage(error)),
    };
    let file = folder.join(META);
    let cluster = match read_small(io, &file).await.map_err(storage)? {
        Some(text) => check_meta(folder, &file, &text, node)?,
        None => {
            let random = [io.random(), io.random()].map(u64::to_be_bytes).concat();
            let cluster = ClusterId(random.try_into().expect("two times eight bytes"));
            let hex: String = cluster.0.iter().map(|byte| format!("{byte:02x}")).collect();
            let text = format!(
                "# Written by Trialog at the first start. Do not edit.\nversion={VERSION}\n\
                 node.id={node}\ncluster.id={hex}\n"
            );
            write_small(io, folder, META, text).await.map_err(storage)?;
            cluster
        }
    };
    let topics = folder.join(TOPICS);
    make_one(io, &topics).await.map_err(storage)?;
    Ok(Claim { cluster, _lock: lock })
}

fn check_meta(
    folder: &Path,
    file: &Path,
    text: &str,
    node: NodeId,
) -> Result<ClusterId, DataError> {
    let unreadable = |reason: String| DataError::Unreadable { file: file.to_owned(), reason };
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(str::trim).ok_or_else(|| unreadable(format!("there is no {key} in it")))
    };
    let number = |key: &str| {
        value(key)?.parse::<u32>().map_err(|_| unreadable(format!("its {key} is not a number")))
    };
    let version = number("version")?;
    if version > VERSION {
        return Err(DataError::Newer { folder: folder.to_owned(), version });
    }
    let theirs = i32::try_from(number("node.id")?)
        .map_err(|_| unreadable("its node.id is too large".to_owned()))?;
    if theirs != node.0 {
        return Err(DataError::OtherNode { folder: folder.to_owned(), theirs, ours: node.0 });
    }
    let hex = value("cluster.id")?;
    let cluster = u128::from_str_radix(hex, 16)
        .ok()
        .filter(|_| hex.len() == 32)
        .ok_or_else(|| unreadable("its cluster.id is not 32 hexadecimal digits".to_owned()))?;
    Ok(ClusterId(cluster.to_be_bytes()))
}

/// Where the log of the cluster's metadata lives.
#[must_use]
pub fn metadata_folder(data: &Path) -> PathBuf {
    data.join("__cluster_metadata-0")
}

/// Where one partition's log lives.
#[must_use]
pub fn partition_folder(data: &Path, topic: &Topic, index: PartitionIndex) -> PathBuf {
    folder(data, &topic.name, topic.id, index)
}

/// The same, of a topic that may be gone.
#[must_use]
pub fn folder(data: &Path, topic: &str, id: TopicId, index: PartitionIndex) -> PathBuf {
    data.join(TOPICS).join(topic).join(format!("{id}-{index}"))
}

/// Makes the folders above a partition's log, durably, and returns its own.
pub async fn prepare_partition<I: Io>(
    io: &I,
    data: &Path,
    topic: &Topic,
    index: PartitionIndex,
) -> io::Result<PathBuf> {
    let folder = partition_folder(data, topic, index);
    make_one(io, folder.parent().expect("a partition lies in its topic's folder")).await?;
    make_one(io, &folder).await?;
    Ok(folder)
}

/// Removes the folders of topics that the image does not have: a deletion the last run did not
/// finish.
pub async fn remove_orphans<I: Io>(io: &I, data: &Path, image: &Image) -> io::Result<()> {
    let topics = data.join(TOPICS);
    for name in io.list(&topics).await?.into_iter().filter(|entry| entry.is_dir) {
        let folder = topics.join(&name.name);
        let id = image.topic(&name.name).map(|topic| topic.id.to_string());
        for partition in io.list(&folder).await?.into_iter().filter(|entry| entry.is_dir) {
            if !id.as_ref().is_some_and(|id| partition.name.starts_with(id.as_str())) {
                probe::hit(Probe::OrphanRemoved);
                info!(topic = name.name, folder = partition.name, "removing a deleted topic's log");
                remove_tree(io, &folder.join(&partition.name)).await?;
            }
        }
        if id.is_none() {
            remove_tree(io, &folder).await?;
        }
    }
    Ok(())
}

/// Removes a folder and all that is in it. One that does not exist is fine.
pub async fn remove_tree<I: Io>(io: &I, folder: &Path) -> io::Result<()> {
    // Folders are at most two deep; the list of what is left replaces recursion.
    let mut left = vec![(folder.to_owned(), false)];
    while let Some((path, emptied)) = left.pop() {
        if emptied {
            ignore_missing(io.remove(&path).await)?;
            continue;
        }
        let entries = match io.list(&path).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        left.push((path.clone(), true));
        for entry in entries {
            let inner = path.join(&entry.name);
            if entry.is_dir {
                left.push((inner, false));
            } else {
                ignore_missing(io.remove(&inner).await)?;
            }
        }
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a folder whose parent exists, durably; one that exists is fine (and made durable: the
/// last run may have died before it was).
async fn make_one<I: Io>(io: &I, folder: &Path) -> io::Result<()> {
    match io.make_dir(folder).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    keep_name(io, folder).await
}

/// Makes a folder's own name durable.
async fn keep_name<I: Io>(io: &I, folder: &Path) -> io::Result<()> {
    match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => io.sync_dir(Path::new(".")).await,
        Some(parent) => io.sync_dir(parent).await,
        None => Ok(()),
    }
}

/// Makes a folder and those above it that are missing, durably.
async fn make_path<I: Io>(io: &I, folder: &Path) -> Result<(), DataError> {
    let storage = |folder: &Path, error| DataError::Storage { folder: folder.to_owned(), error };
    let mut missing = Vec::new();
    for ancestor in folder.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        match io.list(ancestor).await {
            Ok(_) => {
                // The last run may have died before that. What others have made above it, where we may
                // not look, is theirs to keep.
                match keep_name(io, ancestor).await {
                    Err(error) if error.kind() != ErrorKind::PermissionDenied => {
                        return Err(storage(ancestor, error));
                    }
                    _ => break,
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(ancestor),
            Err(error) => return Err(storage(ancestor, error)),
        }
    }
    for folder in missing.into_iter().rev() {
        make_one(io, folder).await.map_err(|error| storage(folder, error))?;
    }
    Ok(())
}

async fn read_small<I: Io>(io: &I, path: &Path) -> io::Result<Option<String>> {
    let bytes = read_bytes(io, path, 64 << 10).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// The first bytes of a file, at most `most`; `None` if there is no such file.
pub(super) async fn read_bytes<I: Io>(io: &I, path: &Path, most: usize) -> io::Result<Option<Buf>> {
    let file = match io.open(path, Open::Read).await {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.length().await?).unwrap_or(usize::MAX);
    let (result, bytes) = io::fill_at(&file, Buf::with_capacity(length.min(most)), 0).await;
    result?;
    Ok(Some(bytes))
}

/// Writes a file so that a crash leaves either none or all of it.
pub(super) async fn write_small<I: Io>(
    io: &I,
    folder: &Path,
    name: &str,
    bytes: impl Into<Vec<u8>>,
) -> io::Result<()> {
    let unfinished = folder.join(format!("{name}.new"));
    let file = io.open(&unfinished, Open::Create).await?;
    file.truncate(0).await?;
    let (result, _) = io::write_all_at(&file, vec![Buf::from(bytes.into())], 0).await;
    result?;
    file.sync().await?;
    io.rename(&unfinished, &folder.join(name)).await?;
    io.sync_dir(folder).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<ClusterId, DataError> {
        check_meta(Path::new("d"), Path::new("d/meta.properties"), text, NodeId(7))
    }

    #[test]
    fn meta_properties_are_checked() {
        let id = "000102030405060708090a0b0c0d0e0f";
        let good = format!("version=1\nnode.id=7\ncluster.id={id}\n");
        let cluster = check(&good).expect("these are good");
        assert_eq!(cluster.0, std::array::from_fn(|place| place as u8));
        let newer = check(&good.replace("version=1", "version=2"));
        assert!(matches!(newer, Err(DataError::Newer { version: 2, .. })));
        let other = check(&good.replace("node.id=7", "node.id=8"));
        assert!(matches!(other, Err(DataError::OtherNode { theirs: 8, ours: 7, .. })));
        for bad in ["", "version=x", "version=1\nnode.id=7", &good.replace(id, "12")] {
            assert!(matches!(check(bad), Err(DataError::Unreadable { .. })), "{bad}");
        }
    }
}
