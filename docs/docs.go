// Package docs holds those pages of this folder that the program can print.
package docs

import _ "embed"

// JSON is json.md, the contract of --json, in Markdown.
//
//go:embed json.md
var JSON string
