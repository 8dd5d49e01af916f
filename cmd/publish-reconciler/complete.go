package main

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// candidate is a word that may stand where the cursor is.
type candidate struct{ word, help string }

// complete tells what the last of the words may become, and nothing where anything goes, as a path does. A value
// is known where its flag or argument has a tag with its values. Bash takes --flag=value for three words.
func complete(root *kong.Node, words []string) []candidate {
	if len(words) == 0 {
		words = []string{""}
	}
	before, last := words[:len(words)-1], words[len(words)-1]
	node, arguments := root, 0
	var flag *kong.Flag // whose value comes next
	for _, word := range before {
		switch {
		case flag != nil:
			if word != "=" {
				flag = nil
			}
		case strings.HasPrefix(word, "-"):
			name, _, whole := strings.Cut(word, "=")
			if found := findFlag(node, name); found != nil && !whole && !found.IsBool() {
				flag = found
			}
		default:
			if child := findCommand(node, word); child != nil {
				node = child
			} else {
				arguments++
			}
		}
	}
	name, _, whole := strings.Cut(last, "=")
	switch {
	case flag != nil:
		return startingWith(strings.TrimPrefix(last, "="), values(flag.Value, ""))
	case strings.HasPrefix(last, "-") && whole:
		if flag = findFlag(node, name); flag == nil {
			return nil
		}
		return startingWith(last, values(flag.Value, name+"="))
	case strings.HasPrefix(last, "-"):
		return startingWith(last, flags(node))
	case arguments < len(node.Positional):
		return startingWith(last, values(node.Positional[arguments], ""))
	case arguments == 0:
		return startingWith(last, subcommands(node))
	default:
		return nil
	}
}

func startingWith(prefix string, all []candidate) []candidate {
	return slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.word, prefix) })
}

// values are those that the value's tag names, such as values:"on,off".
func values(value *kong.Value, before string) (all []candidate) {
	if !value.Tag.Has("values") {
		return nil
	}
	for word := range strings.SplitSeq(value.Tag.Get("values"), ",") {
		all = append(all, candidate{before + word, value.Help})
	}
	return all
}

func flags(node *kong.Node) (all []candidate) {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			all = append(all, candidate{"--" + flag.Name, flag.Help})
		}
	}
	return all
}

func findFlag(node *kong.Node, name string) *kong.Flag {
	for _, group := range node.AllFlags(true) {
		for _, flag := range group {
			if "--"+flag.Name == name {
				return flag
			}
		}
	}
	return nil
}

func subcommands(node *kong.Node) (all []candidate) {
	for _, child := range node.Children {
		if !child.Hidden {
			all = append(all, candidate{child.Name, child.Help})
		}
	}
	return all
}

func findCommand(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}
