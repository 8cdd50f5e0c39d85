-- mend: how an audit mends what it has found: each gives a function that only writes. `audit` is what it knows: the keys by
-- their names, `zsets` and `streams` among them by where messages may be, the structure, the time and who asked.
local function is_entry(key, entry, id)
  local found = entry_of(entry) and redis.call('XRANGE', key, entry, entry)[1]
  return found and found[2][2] == id
end

local function is_at(audit, home, entry, id)
  if audit.zsets[home] then return redis.call('ZSCORE', audit.zsets[home], id) end
  return is_entry(audit.streams[home], entry, id)
end

local function take_away(audit, id, entry)
  return function()
    local structure = audit.structure
    if entry then redis.call('XDEL', audit.streams[structure], entry) else redis.call('ZREM', audit.zsets[structure], id) end
  end
end

local function displace(audit, id, entry)
  if entry and entry_of(entry) then redis.call('ZREM', audit.urgent, place_of(entry, id)) end
end

local function put_back(audit, id, record, due, entry)
  return function()
    redis.call('ZREM', audit.leases, id)
    redis.call('ZREM', audit.scheduled, id)
    displace(audit, id, entry)
    record.status = 'P'
    if due > audit.now and due < 2 ^ 53 then
      record.at, record.entry = due, '-'
      redis.call('ZADD', audit.scheduled, string.format('%d', due), id)
    else
      record.entry, audit.rung = make_ready(audit.stream, audit.urgent, id, record.priority), true
    end
    redis.call('HSET', audit.states, id, format_record(record))
  end
end

local function bring_to_an_end(audit, id, record, entry)
  return function()
    redis.call('ZREM', audit.leases, id)
    redis.call('ZREM', audit.scheduled, id)
    if entry then
      redis.call('XDEL', audit.stream, entry)
      displace(audit, id, entry)
    end
    if record then
      note(record, 'unreadable', audit.now, audit.who)
      record.status, record.cause, record.payload, audit.died = 'E', 'unreadable', '', audit.died + 1
      finish(audit.states, audit.finished, audit.dead, {{id, record}}, audit.now)
    end
  end
end

local function list(audit, id, record)
  return function()
    if record.status == 'I' then -- a live worker goes on, from a dead one it is taken
      redis.call('ZADD', audit.leases, string.format('%d', audit.now + audit.lease), id)
    elseif not is_letter(record) then
      record.entry = redis.call('XADD', audit.finished, '*', 'id', id)
      redis.call('HSET', audit.states, id, format_record(record))
    else
      redis.call('ZADD', audit.dead, string.format('%d', ended_at(record) or audit.now), id)
    end
  end
end

local function anew(at, body)
  local record = new_record(at)
  record.priority = body and priority_in(body) or 0
  return record
end

local function write_record(audit, id, status, entry, ready_entry)
  local record = new_record(audit.now)
  record.status, record.entry = status, entry
  if status == 'E' then record.cause = 'unreadable' end
  return function()
    displace(audit, id, ready_entry)
    redis.call('HSET', audit.states, id, format_record(record))
  end
end
