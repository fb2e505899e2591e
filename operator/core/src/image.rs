//! Which image has an agent? The chart's, or the one that its policy names, where an admin allows that one.

use fleetprof_crds::ProfilingPolicySpec;

use crate::container::matches_glob;

/// The images that agents may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentImages {
    /// That of policies that name none.
    pub default: String,
    /// Globs of those that policies may name beside it: `*` stands for any run of characters.
    pub allowed: Vec<String>,
}

impl AgentImages {
    /// The image of the agents of a policy.
    ///
    /// # Errors
    /// A sentence without its full stop, when the policy names one that no admin allows.
    pub fn of<'a>(&'a self, spec: &'a ProfilingPolicySpec) -> Result<&'a str, String> {
        match spec.agent.image.as_deref() {
            None => Ok(&self.default),
            Some(image)
                if image == self.default || self.allowed.iter().any(|glob| matches_glob(glob, image)) =>
            {
                Ok(image)
            }
            Some(image) => Err(format!("{image:?} is no image that an admin allows: {}", self.list())),
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
        let refused = "\"evil.example/mirror.example/agent:2\" is no image that an admin allows: agent:1, \
                       mirror.example/agent:*";
        assert_eq!(of(json!({"image": "evil.example/mirror.example/agent:2"})), Err(refused.into()));
    }
}
