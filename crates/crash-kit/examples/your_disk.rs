//! How to try a `Disk` of your own: here one that scrambles what it writes, as a cipher would, above
//! another one.
//!
//! `cargo run -p quorate-crash-kit --example your_disk`

use quorate_crash_kit::{Finding, Layered, QuorateWal, check_disk, check_log};
use quorate_wal::{Disk, DiskFile, DiskSpace};
use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Each byte is stored as another one, which depends on its place. A hole stays zeros to whoever reads.
struct Scrambled(Arc<dyn Disk>);

struct ScrambledFile(Box<dyn DiskFile>);

fn mask(offset: u64) -> u8 {
    let [low, high, ..] = offset.wrapping_mul(0x9e37_79b9).to_le_bytes();
    low ^ high
}

/// Zero is stored as zero, so that what was never written still reads as zeros.
fn scramble(byte: u8, mask: u8) -> u8 {
    if byte == 0 || byte == mask { byte } else { byte ^ mask }
}

impl Disk for Scrambled {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ScrambledFile(self.0.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ScrambledFile(self.0.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<DiskSpace> {
        self.0.space(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.0.lock(path)
    }
}

impl DiskFile for ScrambledFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.0.size_bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.0.read_at(buffer, offset)?;
        for (at, byte) in (offset..).zip(buffer.iter_mut().take(count)) {
            *byte = scramble(*byte, mask(at));
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let scrambled: Vec<u8> =
            (offset..).zip(bytes).map(|(at, byte)| scramble(*byte, mask(at))).collect();
        self.0.write_at(&scrambled, offset)
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        self.0.set_size(size_bytes)
    }

    fn reserve(&self, offset: u64, size_bytes: u64) -> io::Result<bool> {
        self.0.reserve(offset, size_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

fn main() -> Result<(), Finding> {
    // A new process would put its disk together so.
    let machine = || Layered::new(|beneath| Arc::new(Scrambled(beneath)) as Arc<dyn Disk>);
    println!("the disk: {}", check_disk(machine)?);
    println!("Quorate's log on it: {}", check_log(machine, &QuorateWal)?);
    Ok(())
}
