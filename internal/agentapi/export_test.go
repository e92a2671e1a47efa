package agentapi

// Query is how a client sends a filter.
var Query = CTFilter.query
