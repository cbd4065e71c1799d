// Command compose-check loads a Compose file as `docker compose` does (schema, merges, references, interpolation) and
// prints its services, one a line. Tests use it where there is no Docker: `make compose-check` builds it.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: compose-check FILE")
		os.Exit(2)
	}
	options, err := cli.NewProjectOptions([]string{os.Args[1]})
	if err == nil {
		var names []string
		project, loaded := options.LoadProject(context.Background())
		if err = loaded; err == nil {
			names = project.ServiceNames()
			sort.Strings(names)
			for _, name := range names {
				fmt.Println(name)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
