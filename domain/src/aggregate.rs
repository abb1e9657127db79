//! What holds for every aggregate that users make: who may change it, and at which version.

/// Who issues a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub subject: String,
    pub is_admin: bool,
}

/// The version that the caller saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is.
    Any,
    /// One of these; none never fits.
    Versions(Vec<u64>),
}

/// What of an aggregate decides whether it may be changed at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub version: u64,
    pub owner: String,
    pub is_deleted: bool,
}

/// Why a command is not carried out. Nothing follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it does not exist")]
    Unknown,
    #[error("it was deleted at version {version}")]
    Deleted { version: u64 },
    #[error("it exists already, at version {version}")]
    Exists { version: u64 },
    #[error("only its owner or an admin may change it")]
    NotAllowed,
    #[error("it is at version {current}, which is not the one expected")]
    Stale { current: u64 },
}

/// Whether a caller may change an aggregate as it stands; restoring is all that may be done to one
/// that is deleted.
pub fn permit(
    standing: Option<&Standing>,
    restores: bool,
    caller: &Caller,
    expected: &Expected,
) -> Result<(), Refusal> {
    let Some(standing) = standing else { return Err(Refusal::Unknown) };
    let version = standing.version;
    if !caller.is_admin && caller.subject != standing.owner {
        return Err(Refusal::NotAllowed);
    }
    if standing.is_deleted && !restores {
        return Err(Refusal::Deleted { version });
    }
    if let Expected::Versions(versions) = expected
        && !versions.contains(&version)
    {
        return Err(Refusal::Stale { current: version });
    }
    Ok(())
}

/// Whether an aggregate may be created. A version that is expected of what is not there is a stale
/// one.
pub fn permit_creation(standing: Option<&Standing>, expected: &Expected) -> Result<(), Refusal> {
    match (standing, expected) {
        (Some(standing), _) => Err(Refusal::Exists { version: standing.version }),
        (None, Expected::Versions(_)) => Err(Refusal::Unknown),
        (None, Expected::Any) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(subject: &str) -> Caller {
        Caller { subject: subject.to_owned(), is_admin: subject == "admin" }
    }

    #[test]
    fn owners_and_admins_change_what_is_there_at_the_version_they_saw() {
        let standing = |is_deleted| Standing { version: 3, owner: "mary".to_owned(), is_deleted };
        let (there, gone) = (standing(false), standing(true));
        let (any, seen) = (Expected::Any, |version| Expected::Versions(vec![1, version]));
        let mary = caller("mary");
        assert_eq!(permit(None, false, &mary, &any), Err(Refusal::Unknown));
        for (who, expected) in [("mary", any.clone()), ("admin", any.clone()), ("mary", seen(3))] {
            assert_eq!(permit(Some(&there), false, &caller(who), &expected), Ok(()));
        }
        let stale = Err(Refusal::Stale { current: 3 });
        assert_eq!(permit(Some(&there), false, &mary, &seen(2)), stale);
        assert_eq!(permit(Some(&there), false, &mary, &Expected::Versions(vec![])), stale);
        assert_eq!(
            permit(Some(&gone), false, &mary, &seen(2)),
            Err(Refusal::Deleted { version: 3 })
        );
        assert_eq!(permit(Some(&gone), true, &mary, &any), Ok(()));
        let not_allowed = Err(Refusal::NotAllowed);
        assert_eq!(permit(Some(&gone), true, &caller("tom"), &any), not_allowed);
        assert_eq!(permit(Some(&there), false, &caller("tom"), &seen(2)), not_allowed);
    }

    #[test]
    fn only_what_is_not_there_is_created() {
        let there = Standing { version: 3, owner: "mary".to_owned(), is_deleted: true };
        assert_eq!(permit_creation(None, &Expected::Any), Ok(()));
        let expected = Expected::Versions(vec![3]);
        assert_eq!(permit_creation(None, &expected), Err(Refusal::Unknown));
        let exists = Err(Refusal::Exists { version: 3 });
        assert_eq!(permit_creation(Some(&there), &Expected::Any), exists);
        assert_eq!(permit_creation(Some(&there), &expected), exists);
    }
}
