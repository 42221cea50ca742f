import { registerHooks } from 'node:module'

// In an app, `gopherqueue` is the installed package. In this checkout it is the source beside, without a build.
const places: Record<string, string> = {
  gopherqueue: import.meta.resolve('../src/index.ts'),
  'gopherqueue/testing': import.meta.resolve('../src/testing/index.ts'),
}

registerHooks({ resolve: (name, context, next) => next(places[name] ?? name, context) })
