-- A database in another encoding than UTF8, which cannot hold all texts.
select 'database ' || current_database(), 'its encoding is ' || current_setting('server_encoding'), '' where current_setting('server_encoding') <> 'UTF8'
