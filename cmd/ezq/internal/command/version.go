package command

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionView is what version --json prints.
type versionView struct {
	Version string `json:"version"` // of the command, as v0.1.0, or (devel)
	Go      string `json:"go"`
}

func newVersion(s *session) *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the version of this command", Args: none()}
	asJSON := jsonFlag(cmd)
	s.runs(cmd, func(context.Context, []string) error {
		v := versionView{Version: "unknown", Go: runtime.Version()}
		if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
			v.Version = info.Main.Version
		}
		if *asJSON {
			return s.printJSON(v)
		}
		s.printf("ezq %s\n", v.Version)
		return nil
	})
	return cmd
}
