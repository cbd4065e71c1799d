// Command dockerfile-check reads a Dockerfile from standard input as BuildKit does and prints its stages, one a line.
// It fails on what BuildKit's parser refuses, and on what its linter warns of. Tests use it where there is no engine:
// `make dockerfile-check` builds it.
package main

import (
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

func main() {
	failed := false
	complain := func(rule, text string) {
		failed = true
		fmt.Fprintf(os.Stderr, "%s: %s\n", rule, text)
	}
	parsed, err := parser.Parse(os.Stdin)
	if err != nil {
		complain("syntax", err.Error())
		os.Exit(1)
	}
	for _, warning := range parsed.Warnings {
		complain("warning", warning.Short)
	}
	lint := linter.New(&linter.Config{
		Warn: func(rule, _, _, message string, _ []parser.Range) { complain(rule, message) },
	})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		complain("instruction", err.Error())
	}
	for _, stage := range stages {
		fmt.Println(stage.BaseName, len(stage.Commands))
	}
	if failed {
		os.Exit(1)
	}
}
