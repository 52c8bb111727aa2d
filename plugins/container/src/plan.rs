//! Decisions: which container is meant, and whether it can be joined.

use pontoon_ledger::{Attachment, Key, find};

use crate::error::TargetError;

/// What to do about a namespace that cannot be re-bound.
pub(crate) fn instead(label: &str) -> String {
    format!(
        "start the process in the network namespace of {label} (then nothing has to be changed), \
         or give it a named namespace (ip netns add NAME) that it joins after ADD"
    )
}

/// The attachments of the container that is meant, `own` being the one that joins.
pub(crate) fn choose<'a>(
    attachments: &'a [Attachment],
    wanted: &str,
    own: &Key,
    names: impl Fn(&Attachment) -> Vec<String>,
) -> Result<Vec<&'a Attachment>, TargetError> {
    let found = match find(attachments, wanted, names) {
        Ok(found) => found,
        Err(ids) if ids.is_empty() => {
            if wanted == own.container {
                return Err(itself(&own.container));
            }
            return Err(TargetError::NotAttached {
                wanted: wanted.to_owned(),
            });
        }
        Err(ids) => {
            return Err(TargetError::Ambiguous {
                wanted: wanted.to_owned(),
                ids: ids.join(", "),
            });
        }
    };
    if let Some(attachment) = found.first()
        && attachment.key.container == own.container
    {
        return Err(itself(&own.container));
    }
    if let Some(attachment) = found.iter().find(|attachment| attachment.mode == "host") {
        return Err(TargetError::OnHost {
            container: attachment.key.container.clone(),
        });
    }
    Ok(found)
}

fn itself(container: &str) -> TargetError {
    TargetError::Itself {
        container: container.to_owned(),
    }
}

/// Follows from whom to whom a container's network is shared; `joins` tells whom a container
/// joins, if any. Refuses to close a circle.
pub(crate) fn refuse_cycle(
    own: &str,
    target: &str,
    joins: impl Fn(&str) -> Option<String>,
) -> Result<(), TargetError> {
    let mut way = vec![own.to_owned(), target.to_owned()];
    while let Some(next) = joins(way.last().map_or("", String::as_str)) {
        let closed = next == own;
        let seen = way.contains(&next);
        way.push(next);
        if closed {
            return Err(TargetError::Circle {
                way: way.join(" -> "),
            });
        }
        if seen {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(mode: &'static str, container: &str) -> Attachment {
        Attachment {
            mode,
            key: key(container),
        }
    }

    fn key(container: &str) -> Key {
        Key {
            network: "net".into(),
            container: container.into(),
            interface: "eth0".into(),
        }
    }

    #[track_caller]
    fn check(wanted: &str, expected: Result<&str, &str>) {
        let attachments = [
            attachment("bridge", "aa11"),
            attachment("bridge", "aa22"),
            attachment("host", "bb"),
            attachment("none", "cc"),
        ];
        let found = choose(&attachments, wanted, &key("cc"), |_| Vec::new());
        match (found, expected) {
            (Ok(found), Ok(id)) => assert_eq!(found[0].key.container, id),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn who_is_meant() {
        check("aa11", Ok("aa11"));
        check("aa1", Ok("aa11"));
        check("aa", Err("aa11, aa22"));
        check("zz", Err("zz is not attached"));
        check("bb", Err("bb is on the host's network"));
        check("cc", Err("cc cannot share the network of itself"));
        check("c", Err("itself"));
    }

    #[test]
    fn circles_are_found() {
        let joins = |id: &str| match id {
            "b" => Some("c".to_owned()),
            "c" => Some("a".to_owned()),
            _ => None,
        };
        assert!(refuse_cycle("d", "a", joins).is_ok());
        let error = refuse_cycle("a", "b", joins).unwrap_err();
        assert!(error.to_string().contains("a -> b -> c -> a"), "{error}");
        // A circle of other containers is not this call's to refuse, and no reason to walk for ever.
        assert!(
            refuse_cycle("x", "a", |id| Some(
                if id == "a" { "b" } else { "a" }.into()
            ))
            .is_ok()
        );
    }
}
