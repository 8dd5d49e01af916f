#compdef publish-reconciler
# Completes publish-reconciler in zsh, which asks the program itself. What it does not know may be a path.
_publish-reconciler() {
	local line
	local -a candidates
	for line in ${(f)"$("$words[1]" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"}; do
		candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	if (($#candidates)); then
		_describe publish-reconciler candidates
	else
		_files
	fi
}
# From fpath it is called as the function of its name; from a file that is sourced it is made known.
if [[ $funcstack[1] == _publish-reconciler ]]; then
	_publish-reconciler "$@"
else
	compdef _publish-reconciler publish-reconciler
fi
