//! `larder-bench-mountpoint ENDPOINT BUCKET PREFIX DIRECTORY CACHE`: a read-only mount in the foreground, until it is unmounted.
//!
//! What the command line of `mount-s3 --read-only --allow-other --cache CACHE` sets is set here: blocks of 1 MiB in the cache, parts of
//! 8 MiB, 16 threads. Metadata lives for ever instead of a minute, which is in its favour: nothing changes while it is measured.

use std::env::args;
use std::error::Error;

use mountpoint_s3_client::config::AddressingStyle;
use mountpoint_s3_client::user_agent::UserAgent;
use mountpoint_s3_fs::data_cache::{CacheLimit, DataCacheConfig, DiskDataCacheConfig, ManagedCacheDir};
use mountpoint_s3_fs::fs::{CacheConfig, TimeToLive};
use mountpoint_s3_fs::fuse::config::{FuseOptions, FuseSessionConfig, MountPoint};
use mountpoint_s3_fs::memory::{CandidateSize, PagedPool};
use mountpoint_s3_fs::s3::config::{ClientConfig, MemoryLimitSetting, PartConfig, Region, TargetThroughputSetting};
use mountpoint_s3_fs::s3::{Bucket, Prefix, S3Path};
use mountpoint_s3_fs::{MountpointConfig, Runtime, S3FilesystemConfig, Superblock, SuperblockConfig, metrics};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const THREADS: usize = 16;
const BLOCK_BYTES: u64 = 1 << 20;
const PART_BYTES: usize = 8 << 20;
const MEMORY_BYTES: usize = 2 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = args().skip(1).collect();
    let [endpoint, bucket, prefix, directory, cache] = words.as_slice() else {
        return Err("usage: larder-bench-mountpoint ENDPOINT BUCKET PREFIX DIRECTORY CACHE".into());
    };
    let _sink = metrics::install(None)?;

    let parts = PartConfig::with_part_size(PART_BYTES).validate(MemoryLimitSetting::Default(MEMORY_BYTES))?;
    let pool = PagedPool::config()
        .with_candidate_sizes([CandidateSize::new(parts.read_size_bytes)])
        .with_memory_limit(MEMORY_BYTES)
        .build();
    let client = ClientConfig {
        region: Region::new_user_specified("us-east-1".to_owned()),
        endpoint_url: Some(endpoint.clone()),
        addressing_style: AddressingStyle::Path,
        dual_stack: false,
        transfer_acceleration: false,
        auth_config: Default::default(),
        requester_pays: false,
        expected_bucket_owner: None,
        throughput_target: TargetThroughputSetting::Default,
        bind: None,
        part_config: parts,
        user_agent: UserAgent::new(None),
        tls_config: None,
    }
    .create_client(pool.clone(), None)?;

    let filesystem = S3FilesystemConfig {
        cache_config: CacheConfig::new(TimeToLive::Indefinite),
        read_only: true,
        ..Default::default()
    };
    let superblock = Superblock::new(
        client.clone(),
        S3Path::new(Bucket::new(bucket.clone())?, Prefix::new(prefix)?),
        SuperblockConfig {
            cache_config: filesystem.cache_config.clone(),
            s3_personality: filesystem.s3_personality,
        },
    );
    let blocks = ManagedCacheDir::new_from_parent_with_cache_key(cache, None, true)?;
    let stored = DataCacheConfig {
        disk_cache_config: Some(DiskDataCacheConfig {
            cache_directory: blocks.as_path_buf(),
            block_size: BLOCK_BYTES,
            limit: CacheLimit::default(),
        }),
        express_cache_config: None,
    };
    let options = FuseOptions {
        read_only: true,
        allow_other: true,
        ..Default::default()
    };
    let session = FuseSessionConfig::new(MountPoint::new(directory)?, options, THREADS)?;
    let runtime = Runtime::new(client.event_loop_group());
    MountpointConfig::new(session, filesystem, stored)?
        .create_fuse_session(superblock, client, runtime, pool)?
        .join()?;
    drop(blocks);
    Ok(())
}
