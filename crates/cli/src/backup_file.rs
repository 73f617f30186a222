//! The file that `quorate snapshot save` writes: a store's bytes, then their SHA-256. Checks the one by
//! the other; must not know what the bytes mean.

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// What ends the file.
const DIGEST_BYTES: u64 = 32;
/// How much is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Checks that the file ends with the digest of what is before, and goes back to its beginning.
///
/// # Errors
///
/// If it does not, or cannot be read.
pub(crate) fn verify(file: &mut File) -> anyhow::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let content = file.metadata()?.len().checked_sub(DIGEST_BYTES);
    let content = content.context("it is too short to be a snapshot")?;
    let mut digest = Sha256::new();
    let mut rest = file.take(content);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = rest.read(&mut piece)?;
        match piece.get(..count) {
            Some(read) if count > 0 => digest.update(read),
            Some(_) | None => break,
        }
    }
    let mut expected = Vec::new();
    let file = rest.into_inner();
    file.read_to_end(&mut expected)?;
    let found = digest.finalize();
    if found.as_slice() != expected {
        bail!(
            "it is damaged or was cut off: it ends with the SHA-256 {}, expected {}, which is that of \
             what stands before",
            hex(&expected),
            hex(&found)
        );
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn verified(content: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        verify(&mut file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_whole_if_it_ends_with_the_digest_of_the_rest() {
        let whole = [&b"hello"[..], &Sha256::digest(b"hello")].concat();
        assert_eq!(verified(&whole), Ok(()));
        let mut other = whole.clone();
        other[0] ^= 1;
        let said = verified(&other).unwrap_err();
        let ends_with =
            "ends with the SHA-256 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e7304";
        assert!(said.contains(ends_with), "{said}");
        assert!(verified(&whole[..36]).unwrap_err().contains("damaged or was cut off"));
        assert!(verified(&whole[..31]).unwrap_err().contains("too short"));
    }
}
