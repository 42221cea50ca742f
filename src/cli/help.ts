import { Argument, type Command, type Option } from 'commander'
import { nameReader } from './arguments.ts'
import { bash, fish, isHidden, zsh } from './complete.ts'
import { type Kind, kinds, printNames } from './names.ts'
import { print } from './output.ts'

const completions = { bash, zsh, fish }

/** Help in other forms, from the commands themselves. */
export function helpCommands(root: Command): void {
  root
    .command('completion')
    .description('a script that completes commands, options and names: source <(gopherqueue completion bash)')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .action((shell: 'bash' | 'zsh' | 'fish') => void print(completions[shell](root)))
  root
    .command('complete-names', { hidden: true })
    .addArgument(new Argument('<kind>').choices(kinds))
    .argument('[beginning]', '', '')
    .action((kind: Kind, beginning: string, _: unknown, command: Command) =>
      printNames(kind, beginning, () => nameReader(command)),
    )
  root
    .command('man')
    .description('the manual page: gopherqueue man | man -l -')
    .action(() => void print(manual(root)))
}

const leaves = (command: Command, path: string[] = []): { path: string[]; command: Command }[] =>
  command.commands
    .filter((one) => !isHidden(one))
    .flatMap((one) => {
      const here = [...path, one.name()]
      return one.commands.length > 0 ? leaves(one, here) : [{ path: here, command: one }]
    })
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
