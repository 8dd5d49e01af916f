# Completes publish-reconciler in fish, which asks the program itself. What it does not know may be a path.
function __publish_reconciler_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] complete -- $words[2..] 2>/dev/null)
    if set -q found[1]
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c publish-reconciler -f -a '(__publish_reconciler_complete)'
