"""The customers' API: routes as data, from which handlers and the OpenAPI document are made."""
