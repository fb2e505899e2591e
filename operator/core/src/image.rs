//! Which image does an agent use? The chart's, or the one set in its policy, if an administrator allows it.

use fleetprof_crds::ProfilingPolicySpec;

use crate::container::matches_glob;

/// Allowed agent images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentImages {
    /// The default image.
    pub default: String,
    /// Globs of additional images that policies may set: `*` matches any characters.
    pub allowed: Vec<String>,
}

impl AgentImages {
    /// The agent image of a policy.
    ///
    /// # Errors A sentence without full stop, if the policy sets an image that is not allowed.
    pub fn of<'a>(&'a self, spec: &'a ProfilingPolicySpec) -> Result<&'a str, String> {
        match spec.agent.image.as_deref() {
            None => Ok(&self.default),
            Some(image)
                if image == self.default || self.allowed.iter().any(|glob| matches_glob(glob, image)) =>
            {
                Ok(image)
            }
            Some(image) => Err(format!("image {image:?} is not allowed; allowed images: {}", self.list())),
        }
    }

    fn list(&self) -> String {
        std::iter::once(&self.default).chain(&self.allowed).map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_has_the_charts_image_or_one_that_an_admin_allows() {
        let images =
            AgentImages { default: "agent:1".into(), allowed: vec!["mirror.example/agent:*".into()] };
        let of = |agent: serde_json::Value| {
            let spec: ProfilingPolicySpec =
                serde_json::from_value(json!({"selector": {}, "agent": agent})).unwrap();
            images.of(&spec).map(str::to_owned)
        };
        assert_eq!(of(json!({})), Ok("agent:1".into()));
        assert_eq!(of(json!({"image": "agent:1"})), Ok("agent:1".into()));
        assert_eq!(of(json!({"image": "mirror.example/agent:2"})), Ok("mirror.example/agent:2".into()));
        let refused = "image \"evil.example/mirror.example/agent:2\" is not allowed; allowed images: \
                       agent:1, mirror.example/agent:*";
        assert_eq!(of(json!({"image": "evil.example/mirror.example/agent:2"})), Err(refused.into()));
    }
}
