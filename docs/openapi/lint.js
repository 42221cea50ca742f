// node docs/openapi/lint.js FILE: what Redocly's recommended rules object to, a line each.
import { createConfig, lint } from '@redocly/openapi-core'

const config = await createConfig({ extends: ['recommended'] })
for (const { severity, ruleId, message, location } of await lint({ ref: process.argv[2], config }))
  console.log(severity, ruleId, message, location[0]?.pointer)
