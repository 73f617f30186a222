//! [`CrashDisk`] as a [`Disk`]: each operation is counted, and happens as far as was ordered. Decides
//! nothing about what survives.

use super::{CrashDisk, Outcome, World, input_output_error, power_is_off};
use crate::crash_disk::content::Content;
use quorate_wal::{Disk, DiskFile};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

struct CrashFile {
    disk: CrashDisk,
    number: usize,
}

struct CrashLock {
    disk: CrashDisk,
    path: PathBuf,
}

impl Drop for CrashLock {
    fn drop(&mut self) {
        self.disk.world().locks.remove(&self.path);
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl World {
    fn content(&mut self, number: usize) -> &mut Content {
        self.files.entry(number).or_default()
    }
}

impl Disk for CrashDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.step_whole()?;
        let number = world.next_file;
        world.next_file += 1;
        world.files.insert(number, Content::default());
        world.set_name(path, Some(number));
        Ok(Box::new(CrashFile { disk: self.clone(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.look()?;
        let number = *world.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(CrashFile { disk: self.clone(), number }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.look()?;
        let inside = world.names.keys().filter(|name| name.parent() == Some(dir));
        let names = inside.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned()));
        Ok(names.collect())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        // Folders are where files are: they need not be made.
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let number = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        world.step_whole()?;
        world.set_name(from, None);
        world.set_name(to, Some(number));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.step_whole()?;
        world.set_name(path, None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        match world.step() {
            Outcome::Go => {
                world.sync_names(dir);
                Ok(())
            }
            Outcome::Cut => Err(power_is_off()),
            Outcome::Fail => {
                world.fail_to_sync_names(dir);
                Err(input_output_error())
            }
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        if !self.world().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(CrashLock { disk: self.clone(), path: path.to_owned() }))
    }
}

impl DiskFile for CrashFile {
    fn size_bytes(&self) -> io::Result<u64> {
        let mut world = self.disk.world();
        world.look()?;
        Ok(world.content(self.number).current.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.look()?;
        let size_max = world.read_size_max.unwrap_or(usize::MAX);
        let bytes = &world.content(self.number).current;
        let there = bytes.get(position(offset)?..).unwrap_or_default();
        let count = there.len().min(buffer.len()).min(size_max);
        for (place, byte) in buffer.iter_mut().zip(there.iter().take(count)) {
            *place = *byte;
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = position(offset)?;
        let mut world = self.disk.world();
        if world.is_off() {
            return Err(power_is_off());
        }
        let outcome = world.step();
        let content = world.content(self.number);
        match outcome {
            Outcome::Go => {
                content.write(offset, bytes);
                Ok(())
            }
            // Not acknowledged; which part arrives is decided when the power is back.
            Outcome::Cut => {
                content.write(offset, bytes);
                Err(power_is_off())
            }
            Outcome::Fail => {
                content.write(offset, bytes.get(..bytes.len() / 2).unwrap_or_default());
                Err(input_output_error())
            }
        }
    }

    fn set_size(&self, size_bytes: u64) -> io::Result<()> {
        let size = position(size_bytes)?;
        let mut world = self.disk.world();
        world.step_whole()?;
        world.content(self.number).set_size(size);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let outcome = world.step();
        let content = world.content(self.number);
        match outcome {
            Outcome::Go => {
                content.sync();
                Ok(())
            }
            Outcome::Cut => Err(power_is_off()),
            Outcome::Fail => {
                content.fail_sync();
                Err(input_output_error())
            }
        }
    }
}
