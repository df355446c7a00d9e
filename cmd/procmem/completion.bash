# __procmem_get_words sets words, cword and cur as _get_comp_words_by_ref -n =:
# of the package bash-completion does: words are not split at = and :, and the
# last of them ends at the cursor.
__procmem_get_words()
{
    local line=${COMP_LINE:0:COMP_POINT} i before
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        before=${line%%[![:space:]]*}
        line=${line#"$before"}
        cur=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || cur=$line
        line=${line#"$cur"}
        if [[ -n $before || $i == 0 ]]; then
            words+=("$cur")
        else
            words[${#words[@]} - 1]+=$cur
        fi
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
}
