//! What the kernel asks of a file system, and what it is told: each question is put to the world, and
//! the answer sent back. Decides nothing.

use super::Shared;
use super::world::{SIZE_BYTES, World};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may believe what it was told. Nobody else changes anything.
const FRESH: Duration = Duration::from_mins(1);
const GENERATION: Generation = Generation(0);
const NO_HANDLE: FileHandle = FileHandle(0);
const BLOCK_SIZE: u32 = 4096;
/// `FALLOC_FL_KEEP_SIZE`.
const KEEP_SIZE: i32 = 1;

/// The file system.
pub(super) struct Files(pub(super) Shared);

fn attributes(world: &World, node: u64) -> Result<FileAttr, Errno> {
    let size = world.size(node)?;
    let kind = if size.is_some() { FileType::RegularFile } else { FileType::Directory };
    let size = size.unwrap_or(0);
    Ok(FileAttr {
        ino: INodeNo(node),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    })
}

/// Past the kernel's pages if reads shall be short: those it fills up with zeros.
fn opening(world: &World) -> FopenFlags {
    if world.has_short_reads { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() }
}

fn entry(answer: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match answer {
        Ok(found) => reply.entry(&FRESH, &found, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn attribute(answer: Result<FileAttr, Errno>, reply: ReplyAttr) {
    match answer {
        Ok(found) => reply.attr(&FRESH, &found),
        Err(error) => reply.error(error),
    }
}

fn empty(answer: Result<(), Errno>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let answer = self.0.ask(|world| {
            let node = world.find(parent.0, name)?;
            attributes(world, node)
        });
        entry(answer, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attribute(self.0.ask(|world| attributes(world, ino.0)), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let answer = self.0.ask(|world| {
            if let Some(size) = size {
                world.set_size(ino.0, size)?;
            }
            attributes(world, ino.0)
        });
        attribute(answer, reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let answer = self.0.ask(|world| {
            let node = world.create(parent.0, name, true)?;
            attributes(world, node)
        });
        entry(answer, reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let answer = self.0.ask(|world| {
            let node = world.create(parent.0, name, false)?;
            Ok((attributes(world, node)?, opening(world)))
        });
        match answer {
            Ok((made, flags)) => reply.created(&FRESH, &made, GENERATION, NO_HANDLE, flags),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.0.ask(|world| Ok(opening(world))) {
            Ok(flags) => reply.opened(NO_HANDLE, flags),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.ask(|world| world.remove(parent.0, name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.ask(|world| world.remove(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replaces = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let (from, to) = ((parent.0, name), (newparent.0, newname));
        empty(self.0.ask(|world| world.rename(from, to, replaces)), reply);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let size = usize::try_from(size).expect("32 bits fit");
        match self.0.ask(|world| world.read(ino.0, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.ask(|world| world.write(ino.0, offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("a request is short")),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.0.ask(|world| world.sync(ino.0)), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.0.ask(|world| world.sync(ino.0)), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let answer = self.0.ask(|world| {
            let listed = world.list(ino.0)?.into_iter();
            let kinds = listed.map(|(name, node)| Ok((name, attributes(world, node)?)));
            kinds.collect::<Result<Vec<_>, Errno>>()
        });
        let found = match answer {
            Ok(found) => found,
            Err(error) => return reply.error(error),
        };
        let skipped = usize::try_from(offset).expect("no folder is that large");
        for (at, (name, it)) in found.iter().enumerate().skip(skipped) {
            if reply.add(it.ino, at as u64 + 1, it.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.0.ask(|world| Ok(world.used_bytes())) {
            Ok(used) => {
                let block = u64::from(BLOCK_SIZE);
                let free = SIZE_BYTES.saturating_sub(used) / block;
                reply.statfs(SIZE_BYTES / block, free, free, 0, 0, BLOCK_SIZE, 255, BLOCK_SIZE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let answer = self.0.ask(|world| {
            let held = world.size(ino.0)?.ok_or(Errno::EISDIR)?;
            match mode {
                // There is room for everything.
                KEEP_SIZE => Ok(()),
                0 if offset + length > held => world.set_size(ino.0, offset + length),
                0 => Ok(()),
                _ => Err(Errno::EOPNOTSUPP),
            }
        });
        empty(answer, reply);
    }
}
