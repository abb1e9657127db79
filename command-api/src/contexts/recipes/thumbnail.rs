//! A recipe's picture in a command: what is said of it, and the picture itself.

use almanac_schemas::{commands::CommandRecord, recipes::Picture};
use serde::{Deserialize, Serialize};

/// What a command says about the picture that is attached to it.
#[derive(Serialize, Deserialize)]
struct Attached {
    content_type: String,
    width: u32,
    height: u32,
}

/// The body of a command that carries this picture.
pub(super) fn body(picture: &Picture) -> String {
    let Picture { content_type, width, height, .. } = picture;
    let attached = Attached { content_type: content_type.clone(), width: *width, height: *height };
    serde_json::to_string(&attached).unwrap_or_default()
}

/// The picture that a command carries.
pub(super) fn of_command(command: &CommandRecord) -> Option<Picture> {
    let attached: Attached = serde_json::from_str(command.body.as_deref()?).ok()?;
    Some(Picture {
        content_type: attached.content_type,
        width: attached.width,
        height: attached.height,
        image: command.attachment.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_carries_a_picture() {
        let content_type = "image/jpeg".to_owned();
        let picture = Picture { content_type, width: 8, height: 4, image: vec![0, 255, 7] };
        let mut command = CommandRecord {
            request_id: String::new(),
            outcome_id: String::new(),
            context: "recipes".to_owned(),
            aggregate_id: String::new(),
            verb: "thumbnail".to_owned(),
            caller: String::new(),
            is_admin: false,
            issued_at: 0,
            deadline: 0,
            expected: None,
            fingerprint: String::new(),
            body: Some(body(&picture)),
            attachment: Some(picture.image.clone()),
        };
        assert_eq!(of_command(&command), Some(picture));
        command.attachment = None;
        assert_eq!(of_command(&command), None);
    }
}
