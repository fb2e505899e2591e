//! Which label selectors does the API take?

/// The schema of a label selector with the bounds that make its rules cheap and its labels legal.
pub(crate) fn label_selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let key = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
    let value = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";
    schemars::json_schema!({
        "type": "object",
        "description": "Label selector. matchLabels and matchExpressions are ANDed; {} selects everything.",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that must be present with these values.",
                "maxProperties": 32,
                "additionalProperties": {"type": "string", "maxLength": 63, "pattern": value}
            },
            "matchExpressions": {
                "type": "array",
                "description": "Requirements that must all be met.",
                "maxItems": 16,
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "description": "Label key.", "maxLength": 317, "pattern": key},
                        "operator": {"type": "string", "description": "In, NotIn, Exists or DoesNotExist.", "maxLength": 16},
                        "values": {
                            "type": "array",
                            "description": "Values for In and NotIn.",
                            "maxItems": 64,
                            "items": {"type": "string", "maxLength": 63, "pattern": value}
                        }
                    }
                }
            }
        }
    })
}
