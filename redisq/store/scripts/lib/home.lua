-- home: the one structure that a message belongs to. Its record tells, or without one the head of its body.
--
-- Gives the name of the structure's key, and in a stream the entry; nil when the body was damaged.
local function home_of(record, body)
  local status = record and record.status or 'P'
  if status == 'I' then return 'leases', '' end
  if status == 'C' or status == 'E' and not is_letter(record) then return 'finished', record.entry end
  if status == 'E' then return 'dead', '' end
  local entry = record and record.entry or string.match(body, '^(%d+%-?%d*);?%d*;?%d? ........')
  if not entry then return nil end
  if string.find(entry, '%d%-') then return 'stream', entry end
  return 'scheduled', ''
end
