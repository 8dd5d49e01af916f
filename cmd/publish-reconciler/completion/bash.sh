# Completes publish-reconciler in bash, which asks the program itself. What it does not know may be a path.
_publish_reconciler() {
	local line
	COMPREPLY=()
	while IFS= read -r line; do
		COMPREPLY+=("${line%%$'\t'*}")
	done < <("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _publish_reconciler publish-reconciler
