//! What is registered under a token of etcd's discovery: how many members there shall be, and who has
//! come so far. Whoever came first belongs to the cluster. Must not know how it is asked.

use quorate_etcd_api::mvccpb::KeyValue;
use std::collections::BTreeMap;

/// Below it are all tokens.
const ROOT: &str = "/_etcd/registry";
/// A cluster of more is none.
const SIZE_MAX: usize = 100;
/// So many are looked at; whoever comes later is not one of the first.
pub(super) const REGISTRATIONS_COUNT_MAX: i64 = 1000;

/// The keys of a token.
#[derive(Debug)]
pub(super) struct Keys {
    token: String,
}

impl Keys {
    pub(super) fn of(token: &str) -> Self {
        Self { token: token.trim_matches('/').to_owned() }
    }

    /// Where it is said how many members there shall be.
    pub(super) fn size(&self) -> String {
        format!("{ROOT}/{}/_config/size", self.token)
    }

    /// How the keys of those who have come begin.
    pub(super) fn members(&self) -> String {
        format!("{ROOT}/{}/members/", self.token)
    }

    /// Where a member registers.
    pub(super) fn member(&self, id: u64) -> String {
        format!("{}{id:x}", self.members())
    }
}

/// Why what is registered makes no cluster. The first words are etcd's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RegistryError {
    /// Nobody has said how many members there shall be.
    #[error(
        "discovery: size key not found: expected a number at {key}, found nothing. Whoever makes the \
         token stores it there, for instance `quorate put {key} 3 --endpoints ...`"
    )]
    NoSize {
        /// Where it should be.
        key: String,
    },
    /// It is no number of members.
    #[error("discovery: size key is bad: expected 1 to {SIZE_MAX} at {key}, found `{found}`")]
    BadSize {
        /// Where it is.
        key: String,
        /// What is there.
        found: String,
    },
    /// All places are taken.
    #[error(
        "discovery: cluster is full: expected {size} members, found {} already, and this node is none \
         of them. A token is for one cluster: make another one for another cluster, or add this node to \
         the one that there is (`quorate member add`)",
        found.join(", ")
    )]
    Full {
        /// How many there shall be.
        size: usize,
        /// Who they are.
        found: Vec<String>,
    },
    /// Two of them would be taken for one.
    #[error(
        "discovery: two members are registered as {name}: {first}, and {second}. Give each a --name of \
         its own, and delete the key of the one that is not there any more"
    )]
    SameName {
        /// Their name.
        name: String,
        /// The key of one and what it says.
        first: String,
        /// Those of the other.
        second: String,
    },
}

/// Reads how many members there shall be.
///
/// # Errors
///
/// [`RegistryError::NoSize`] or [`RegistryError::BadSize`].
pub(super) fn read_size(key: String, found: Option<&KeyValue>) -> Result<usize, RegistryError> {
    let Some(found) = found else { return Err(RegistryError::NoSize { key }) };
    let text = String::from_utf8_lossy(&found.value);
    match text.trim().parse() {
        Ok(size @ 1..=SIZE_MAX) => Ok(size),
        Ok(_) | Err(_) => Err(RegistryError::BadSize { key, found: text.into_owned() }),
    }
}

/// Somebody who has come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registration {
    created: i64,
    key: String,
    /// `name=url`, of several URLs each, as in `--initial-cluster`.
    members: String,
    name: String,
}

/// Those who have come, of whom the first belong to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registry {
    size: usize,
    first: Vec<Registration>,
}

impl Registry {
    /// Of these keys. What is no registration is left out, with a warning.
    pub(super) fn read(size: usize, found: &[KeyValue]) -> Self {
        let mut all: Vec<Registration> = found.iter().filter_map(registration).collect();
        all.sort_by(|one, other| (one.created, &one.key).cmp(&(other.created, &other.key)));
        all.truncate(size);
        Self { size, first: all }
    }

    /// Whether there is a place for the member of this key, or it has one, and nobody else has its name.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Full`] or [`RegistryError::SameName`].
    pub(super) fn check_place(&self, key: &str, name: &str) -> Result<(), RegistryError> {
        let is_there = self.first.iter().any(|it| it.key == key);
        if !is_there && self.is_complete() {
            let found = self.first.iter().map(|it| it.members.clone()).collect();
            return Err(RegistryError::Full { size: self.size, found });
        }
        match self.first.iter().find(|it| it.name == name && it.key != key) {
            Some(other) => Err(RegistryError::SameName {
                name: name.to_owned(),
                first: shown(other),
                second: format!("this node ({key})"),
            }),
            None => Ok(()),
        }
    }

    /// Whether everybody has come.
    pub(super) fn is_complete(&self) -> bool {
        self.first.len() == self.size
    }

    /// How many have, and how many there shall be.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.first.len(), self.size)
    }

    /// The members, as `--initial-cluster` would name them.
    ///
    /// # Errors
    ///
    /// [`RegistryError::SameName`]: what is named twice would be one member with the URLs of two.
    pub(super) fn initial_cluster(&self) -> Result<String, RegistryError> {
        let mut by_name: BTreeMap<&str, &Registration> = BTreeMap::new();
        for second in &self.first {
            if let Some(first) = by_name.insert(&second.name, second) {
                let name = second.name.clone();
                let (first, second) = (shown(first), shown(second));
                return Err(RegistryError::SameName { name, first, second });
            }
        }
        Ok(self.first.iter().map(|it| it.members.as_str()).collect::<Vec<_>>().join(","))
    }
}

fn shown(registration: &Registration) -> String {
    format!("{} ({})", registration.members, registration.key)
}

/// What a key says; nothing if it is not `name=url,name=url` with one name.
fn registration(found: &KeyValue) -> Option<Registration> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (key, members) = (text(&found.key), text(&found.value));
    let mut names =
        members.split(',').map(|element| element.split_once('=').map(|(name, _)| name.trim()));
    let first = names.next().flatten().filter(|name| !name.is_empty());
    let name = first.filter(|first| names.all(|name| name == Some(*first))).map(str::to_owned);
    let Some(name) = name else {
        tracing::warn!(
            key,
            found = members,
            "what is registered there is no member: expected NAME=URL"
        );
        return None;
    };
    Some(Registration { created: found.create_revision, key, members, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(created: i64, key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: format!("/_etcd/registry/t/members/{key}").into(),
            value: value.to_owned().into(),
            create_revision: created,
            ..KeyValue::default()
        }
    }

    fn read(size: usize, found: &[(i64, &str, &str)]) -> Registry {
        let found: Vec<KeyValue> =
            found.iter().map(|(created, key, value)| pair(*created, key, value)).collect();
        Registry::read(size, &found)
    }

    #[test]
    fn the_keys_are_where_etcd_looks_for_them() {
        for token in ["t", "/t/"] {
            let keys = Keys::of(token);
            assert_eq!(keys.size(), "/_etcd/registry/t/_config/size");
            assert_eq!(keys.member(0x8e9e_05c5), "/_etcd/registry/t/members/8e9e05c5");
        }
    }

    #[test]
    fn the_size_is_a_number_of_members() {
        let size = |text: &str| {
            let found = KeyValue { value: text.to_owned().into(), ..KeyValue::default() };
            read_size("k".to_owned(), Some(&found))
        };
        assert_eq!(size("3"), Ok(3));
        assert_eq!(size("100\n"), Ok(100));
        for wrong in ["0", "-1", "101", "three", ""] {
            let said = size(wrong).unwrap_err().to_string();
            assert!(said.starts_with("discovery: size key is bad"), "{said}");
            assert!(said.contains(&format!("found `{wrong}`")), "{said}");
        }
        let said = read_size("k".to_owned(), None).unwrap_err().to_string();
        assert!(said.contains("size key not found") && said.contains("quorate put k 3"), "{said}");
    }

    #[test]
    fn whoever_came_first_belongs_to_the_cluster_whatever_the_keys_are() {
        let registry = read(
            2,
            &[(9, "a", "n1=http://h:1"), (7, "c", "n3=http://h:3"), (8, "b", "n2=http://h:2")],
        );
        assert_eq!(registry.initial_cluster().unwrap(), "n3=http://h:3,n2=http://h:2");
        assert!(registry.is_complete());
        let key = |id: &str| format!("/_etcd/registry/t/members/{id}");
        assert_eq!(registry.check_place(&key("b"), "n2"), Ok(()));
        let late = registry.check_place(&key("a"), "n1").unwrap_err().to_string();
        assert!(late.starts_with("discovery: cluster is full: expected 2 members"), "{late}");
        assert!(late.contains("n3=http://h:3, n2=http://h:2 already"), "{late}");
    }

    #[test]
    fn there_is_a_place_until_everybody_has_come() {
        let registry = read(2, &[(7, "a", "n1=http://h:1")]);
        assert_eq!((registry.counts(), registry.is_complete()), ((1, 2), false));
        assert_eq!(registry.check_place("another", "n2"), Ok(()));
        let said = registry.check_place("another", "n1").unwrap_err().to_string();
        assert!(said.contains("two members are registered as n1"), "{said}");
    }

    #[test]
    fn members_of_one_name_are_not_taken_for_one() {
        let registry = read(2, &[(7, "a", "n1=http://h:1"), (8, "b", "n1=http://h:2")]);
        let said = registry.initial_cluster().unwrap_err().to_string();
        assert!(said.contains("n1=http://h:1 (/_etcd/registry/t/members/a)"), "{said}");
        assert!(said.contains("n1=http://h:2 (/_etcd/registry/t/members/b)"), "{said}");
    }

    #[test]
    fn a_member_may_have_several_urls_and_what_is_no_member_takes_no_place() {
        let found = [
            (1, "a", "nonsense"),
            (2, "b", "=http://h:1"),
            (3, "c", "n1=http://h:1,n2=http://h:2"),
            (4, "d", " n1=http://h:1,n1=http://h:2\n"),
        ];
        let registry = read(1, &found);
        assert_eq!(registry.initial_cluster().unwrap(), "n1=http://h:1,n1=http://h:2");
    }
}
