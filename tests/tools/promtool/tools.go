//go:build tools

// Package tools pins promtool, which checks our alert rules and our exposition in tests: `make promtool`.
package tools

import _ "github.com/prometheus/prometheus/cmd/promtool"
