import type { Argument, Command, Option } from 'commander'
import { type Kind, kinds } from './names.ts'

// Scripts for shells, made of the commands themselves. Names come from the queue by `complete-names`. They are other
// people's text: no shell may evaluate them, so none goes through `compgen -W`.

/** A command, or one of a group: what stands after it, by place, and its options. */
interface Leaf {
  /** Such as 'queue set'. */
  path: string
  description: string
  /** What a name in each place is; 'file' for one of a file, null for what nobody can know. */
  places: (Kind | 'file' | null)[]
  options: readonly Option[]
  /** Of a group: its commands. */
  under: { name: string; description: string }[]
}

const leavesOf = (command: Command, path: string[] = []): Leaf[] =>
  command.commands
    .filter((one) => !isHidden(one))
    .flatMap((one) => {
      const here = [...path, one.name()]
      const under = one.commands.map((sub) => ({ name: sub.name(), description: sub.description() }))
      const places = one.registeredArguments.map((argument) => placeOf(argument, here[0]!))
      const leaf: Leaf = { path: here.join(' '), description: one.description(), places, options: one.options, under }
      return [leaf, ...leavesOf(one, here)]
    })

export const isHidden = (command: Command): boolean => '_hidden' in command && command._hidden === true

function placeOf(argument: Argument, group: string): Kind | 'file' | null {
  const name = argument.name()
  if (name === 'file' || name === 'backup') return 'file'
  if (name === 'name' && group === 'schedule') return 'schedule'
  return kinds.find((kind) => kind === name) ?? null
}

const kindOfOption = (long: string): Kind | undefined =>
  long === '--retries' ? 'type' : kinds.find((kind) => long === `--${kind}`)

const takesValue = ({ required, optional }: Option): boolean => required || optional
const longs = (options: readonly Option[]): string[] => options.flatMap(({ long }) => long ?? [])

export function bash(root: Command): string {
  const leaves = leavesOf(root)
  const options = [...root.options, ...leaves.flatMap((leaf) => leaf.options)]
  const valued = [...new Set(longs(options.filter(takesValue)))]
  const byKind = (kind: Kind) => valued.filter((long) => kindOfOption(long) === kind)
  const choices = options.filter(({ argChoices }) => argChoices)
  const groups = leaves.filter(({ under }) => under.length > 0).map(({ path }) => path)
  const words = ({ under, options: own }: Leaf) => [...under.map(({ name }) => name), ...longs(own), ...longs(root.options)].join(' ') // biome-ignore format: long
  return `_gopherqueue_names() {
  local name
  while IFS= read -r name; do COMPREPLY+=("$(printf %q "$name")"); done < <("\${COMP_WORDS[0]}" "\${place[@]}" complete-names "$1" "$word" 2> /dev/null)
}
_gopherqueue() {
  local word= option= command= nth=0 last=0 i
  local -a place=() words=("\${COMP_WORDS[0]}")
  COMPREPLY=()
  # Bash makes words of what stands around a colon or an equals sign.
  for ((i = 1; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $COMP_WORDBREAKS == *:* && ($word == : || \${words[last]} == *:) ]]; then words[last]+=$word
    elif [[ $word != = || $i -eq $COMP_CWORD ]]; then words+=("\${word#=}"); ((last++)); fi
  done
  word=\${words[last]}
  for ((i = 1; i < last; i++)); do
    option=
    case \${words[i]} in
      --db | --url) place=("\${words[i]}" "\${words[i + 1]}"); option=\${words[i]}; ((i++)) ;;
      ${valued.join(' | ')}) option=\${words[i]}; ((i++)) ;;
      -*) ;;
      *)
        case $command in
          '') command=\${words[i]} ;;
          ${groups.join(' | ')}) command="$command \${words[i]}" ;;
          *) ((nth++)) ;;
        esac ;;
    esac
    ((i == last)) || option=
  done
  case $option in
    '') ;;
${kinds
  .filter((kind) => byKind(kind).length > 0)
  .map((kind) => `    ${byKind(kind).join(' | ')}) _gopherqueue_names ${kind} ;;`)
  .join('\n')}
${[...Map.groupBy(choices, ({ long }) => long)]
  .map(([long, all]) => [long, [...new Set(all.flatMap(({ argChoices }) => argChoices!))]] as const) // of whichever command
  .map(([long, values]) => `    ${long}) COMPREPLY=($(compgen -W '${values.join(' ')}' -- "$word")) ;;`)
  .join('\n')}
    *) COMPREPLY=($(compgen -f -- "$word")) ;;
  esac
  [[ -n $option ]] || case $command in
    '') COMPREPLY=($(compgen -W '${[...new Set(leaves.map(({ path }) => path.split(' ')[0]!))].join(' ')} ${longs(root.options).join(' ')}' -- "$word")) ;;
${leaves.map((leaf) => `    '${leaf.path}') COMPREPLY=($(compgen -W '${words(leaf)}' -- "$word"))${namesOf(leaf)} ;;`).join('\n')}
  esac
  if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
    local start=\${word%"\${word##*:}"}
    for i in "\${!COMPREPLY[@]}"; do COMPREPLY[i]=\${COMPREPLY[i]#"$start"}; done
  fi
}
complete -o nosort -F _gopherqueue gopherqueue gq 2> /dev/null || complete -F _gopherqueue gopherqueue gq`
}

/** What completes the places of a command, as a part of its branch. */
const namesOf = ({ places }: Leaf): string =>
  places
    .map((kind, i) =>
      kind === null
        ? ''
        : `; ((nth == ${i})) && [[ $word != -* ]] && ${kind === 'file' ? 'COMPREPLY+=($(compgen -f -- "$word"))' : `_gopherqueue_names ${kind}`}`,
    )
    .join('')

export const zsh = (root: Command): string => `autoload -U +X bashcompinit && bashcompinit\n${bash(root)}`

const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`

export function fish(root: Command): string {
  const lines = leavesOf(root).flatMap(({ path, description, places, options, under }) => {
    const [first, second] = path.split(' ') as [string, string?]
    const seen = `__fish_seen_subcommand_from ${first}${second === undefined ? '' : `; and __fish_seen_subcommand_from ${second}`}`
    const own =
      second === undefined
        ? [`complete -c gopherqueue -f -n __fish_use_subcommand -a ${first} -d ${quoted(description)}`]
        : []
    const kind = places.find((place) => place !== null)
    return [
      ...own,
      ...under.map(
        (one) =>
          `complete -c gopherqueue -f -n '${seen}; and not __fish_seen_subcommand_from ${under.map(({ name }) => name).join(' ')}' -a ${one.name} -d ${quoted(one.description)}`,
      ),
      ...(kind && kind !== 'file'
        ? [`complete -c gopherqueue -f -n '${seen}' -a '(__gopherqueue_names ${kind})'`]
        : []),
      ...options.map((option) => optionLine(option, seen)),
    ]
  })
  return [
    fishNames,
    ...root.options.map((option) => optionLine(option)),
    ...lines,
    'complete -c gq -w gopherqueue',
  ].join('\n')
}

const fishNames = `function __gopherqueue_names
  set -l words (commandline -opc)
  set -l place
  for i in (seq (count $words))
    contains -- $words[$i] --db --url; and set place $words[$i] $words[(math $i + 1)]
  end
  $words[1] $place complete-names $argv[1] (commandline -ct) 2> /dev/null
end`

function optionLine(option: Option, seen?: string): string {
  const long = option.long ?? ''
  const kind = kindOfOption(long)
  const values = kind
    ? `'(__gopherqueue_names ${kind})'`
    : option.argChoices
      ? `'${option.argChoices.join(' ')}'`
      : null
  const takes = !takesValue(option) ? '' : values ? ` -x -a ${values}` : ' -r'
  return `complete -c gopherqueue${seen ? ` -n '${seen}'` : ''} -l ${long.slice(2)}${takes} -d ${quoted(option.description)}`
}
