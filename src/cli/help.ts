import { Argument, type Command, type Option } from 'commander'
import { print } from './output.ts'

/** Help in other forms, from the commands themselves. */
export function helpCommands(root: Command): void {
  root
    .command('completion')
    .description('a script that completes commands and options: source <(gopherqueue completion bash)')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action((shell: 'bash' | 'zsh' | 'fish') => void print(completions[shell](root)))
  root
    .command('man')
    .description('the manual page: gopherqueue man | man -l -')
    .action(() => void print(manual(root)))
}

const leaves = (command: Command, path: string[] = []): { path: string[]; command: Command }[] =>
  command.commands.flatMap((one) => {
    const here = [...path, one.name()]
    return one.commands.length > 0 ? leaves(one, here) : [{ path: here, command: one }]
  })
const longs = (command: Command): string[] => command.options.map(({ long }) => long ?? '')
const named = (root: Command): string => [...new Set(root.commands.map((command) => command.name()))].join(' ')

const bash = (root: Command): string => `_gopherqueue() {
  local word=\${COMP_WORDS[COMP_CWORD]} command= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in --db | --url) ((i++)) ;; -*) ;; *) command=\${COMP_WORDS[i]}; break ;; esac
  done
  case $command in
    '') COMPREPLY=($(compgen -W '${named(root)} ${longs(root).join(' ')}' -- "$word")) ;;
${root.commands
  .map((command) => {
    const words = [...command.commands.map((one) => one.name()), ...longs(command), ...longs(root)].join(' ')
    return `    ${command.name()}) COMPREPLY=($(compgen -W '${words}' -- "$word")) ;;`
  })
  .join('\n')}
  esac
  [[ \${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$word"))
}
complete -F _gopherqueue gopherqueue gq`

const completions = {
  bash,
  zsh: (root: Command): string => `autoload -U +X bashcompinit && bashcompinit\n${bash(root)}`,
  fish: (root: Command): string =>
    root.commands
      .flatMap((command) => [
        `complete -c gopherqueue -n __fish_use_subcommand -a ${command.name()} -d ${quoted(command.description())}`,
        ...command.options.map(
          ({ long, description }) =>
            `complete -c gopherqueue -n '__fish_seen_subcommand_from ${command.name()}' -l ${(long ?? '').slice(2)} -d ${quoted(description)}`,
        ),
      ])
      .join('\n'),
}

const quoted = (text: string): string => `'${text.replaceAll("'", "\\'")}'`

/** troff: a line that begins with a dot or a quote, and each backslash, would be commands. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replace(/^(?=[.'])/gm, '\\&')

function manual(root: Command): string {
  const options = (list: readonly Option[]) =>
    list.map(({ flags, description }) => `.TP\n.B ${roff(flags)}\n${roff(description || ' ')}`)
  const commands = leaves(root).flatMap(({ path, command }) => [
    `.SS ${roff([...path, command.usage().replace(/^\[options\] ?/, '')].join(' '))}`,
    roff(command.description()),
    ...options(command.options),
  ])
  return [
    `.TH GOPHERQUEUE 1 "" "gopherqueue ${root.version()}"`,
    `.SH NAME\ngopherqueue \\- ${roff(root.description())}`,
    '.SH SYNOPSIS\n.B gopherqueue\n[--db FILE | --url URL] [--json] COMMAND',
    '.SH OPTIONS',
    ...options(root.options),
    '.SH COMMANDS',
    ...commands,
    '.SH EXIT STATUS\n0 ok, 1 failed, 2 usage.',
  ].join('\n')
}
