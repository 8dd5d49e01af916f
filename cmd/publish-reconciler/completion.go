package main

import (
	"context"
	_ "embed"
	"fmt"
)

var (
	//go:embed completion/bash.sh
	bashCompletion string
	//go:embed completion/zsh.zsh
	zshCompletion string
	//go:embed completion/fish.fish
	fishCompletion string
)

// completionCommand prints a script of a few lines, which asks [completeCommand]. The libraries that do this for kong were
// looked at: jotaen/kong-completion and willabides/kongplete have had no release since 2022 and 2023.
type completionCommand struct {
	Shell string `arg:"" name:"shell" values:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (*completionCommand) Help() string {
	return `In bash: source <(publish-reconciler completion bash), in ~/.bashrc. In zsh: the same with zsh, in ~/.zshrc after compinit.
In fish: publish-reconciler completion fish | source, in ~/.config/fish/config.fish.`
}

func (c *completionCommand) run(_ context.Context, out output) error {
	script, known := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell]
	if !known {
		return usageError{fmt.Errorf("shell is %q: it must be bash, zsh or fish", c.Shell)}
	}
	_, err := fmt.Fprint(out.stdout, script)
	return err
}

// completeCommand is what the scripts of [completionCommand] ask at every Tab. The words are those after the program's
// name up to the cursor; the last one is what is being typed, or empty.
type completeCommand struct {
	Words []string `arg:"" optional:"" name:"word"`
}

func (c *completeCommand) run(_ context.Context, out output) error {
	for _, next := range complete(newParser(new(commands)).Model.Node, c.Words) {
		if _, err := fmt.Fprintf(out.stdout, "%s\t%s\n", next.word, next.help); err != nil {
			return err
		}
	}
	return nil
}
