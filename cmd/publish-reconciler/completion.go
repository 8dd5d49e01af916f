package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand prints a script that completes commands and flags. It is made from the program's own model, so that it
// knows those of this version; values are completed as file names are.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (c *completionCommand) run(_ context.Context, out output) error {
	parser, err := newParser(&commands{}, out, nil)
	if err != nil {
		return err
	}
	script := bashCompletion
	switch c.Shell {
	case "zsh":
		script = zshCompletion
	case "fish":
		script = fishCompletion
	}
	_, err = io.WriteString(out.stdout, script(parser.Model.Name, completions(parser.Model.Node, "")))
	return err
}

// completion is what may follow a command.
type completion struct {
	path     string // the command, such as "dead list"; empty for the program itself
	commands []word
	flags    []word
}

// word is a command or a flag, without its dashes.
type word struct{ name, help string }

// completions are those of a command and of all under it, the command itself first.
func completions(node *kong.Node, path string) []completion {
	c := completion{path: path}
	for _, group := range node.AllFlags(true) { // those of the commands above, too
		for _, flag := range group {
			c.flags = append(c.flags, word{flag.Name, flag.Help})
		}
	}
	all := []completion{}
	for _, child := range node.Children {
		if child.Type != kong.CommandNode || child.Hidden {
			continue
		}
		c.commands = append(c.commands, word{child.Name, child.Help})
		all = append(all, completions(child, below(path, child.Name))...)
	}
	return append([]completion{c}, all...)
}

// words are the commands, then the flags with their dashes.
func (c completion) words() string {
	all := make([]string, 0, len(c.commands)+len(c.flags))
	for _, command := range c.commands {
		all = append(all, command.name)
	}
	for _, flag := range c.flags {
		all = append(all, "--"+flag.name)
	}
	return strings.Join(all, " ")
}

// bashCompletion follows the words up to the cursor from command to command. Its variables have names that mean nothing
// to zsh, as path and words do.
func bashCompletion(program string, all []completion) string {
	var b strings.Builder
	function := functionName(program)
	fmt.Fprintf(&b, `%s() {
	local at= may= i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case "$at ${COMP_WORDS[i]}" in
`, function)
	for _, c := range all {
		for _, command := range c.commands {
			fmt.Fprintf(&b, "\t\t'%s %s') at='%s' ;;\n", c.path, command.name, below(c.path, command.name))
		}
	}
	b.WriteString("\t\tesac\n\tdone\n\tcase $at in\n")
	for _, c := range all {
		fmt.Fprintf(&b, "\t'%s') may='%s' ;;\n", c.path, c.words())
	}
	fmt.Fprintf(&b, `	esac
	COMPREPLY=($(compgen -W "$may" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F %s %s
`, function, program)
	return b.String()
}

// zshCompletion is bash's: zsh knows how to run it.
func zshCompletion(program string, all []completion) string {
	return "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n" + bashCompletion(program, all)
}

// fishCompletion tells fish what may come at each command, found as bash finds it.
func fishCompletion(program string, all []completion) string {
	var b strings.Builder
	function := "_" + functionName(program) + "_at"
	fmt.Fprintf(&b, `function %s
	set -l at ''
	for word in (commandline -opc)[2..-1]
		switch "$at $word"
`, function)
	for _, c := range all {
		for _, command := range c.commands {
			fmt.Fprintf(&b, "\t\t\tcase '%s %s'\n\t\t\t\tset at '%s'\n", c.path, command.name, below(c.path, command.name))
		}
	}
	b.WriteString("\t\tend\n\tend\n\ttest \"$at\" = \"$argv[1]\"\nend\n")
	for _, c := range all {
		when := fishQuote(function + ` "` + c.path + `"`)
		for _, command := range c.commands {
			fmt.Fprintf(&b, "complete -c %s -f -n %s -a %s -d %s\n", program, when, command.name, fishQuote(command.help))
		}
		for _, flag := range c.flags {
			fmt.Fprintf(&b, "complete -c %s -n %s -l %s -d %s\n", program, when, flag.name, fishQuote(flag.help))
		}
	}
	return b.String()
}

func functionName(program string) string { return "_" + strings.ReplaceAll(program, "-", "_") }

// below is the path of a command under another.
func below(path, name string) string { return strings.TrimSpace(path + " " + name) }

func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
